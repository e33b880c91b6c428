"""A slow way to other hosts, made of what every host has: nft and Python. Pure: shell comes out.

netem would be the tool, but many kernels are built without it. Here connections go through a relay
on the host itself, which holds back whatever it is given; those that are open already are reset.
"""

from __future__ import annotations

from builder.drill.links import TABLE
from builder.drill.steps import LAST_RESORT_SECONDS, Script
from builder.resources.base import quoted

UNIT = "pgha-drill-latency"
_PORT = 61379  # above those that Linux gives to connections by itself
_MARK = 0x70676861
_RELAY = """\
import asyncio, socket, struct, sys
port, mark, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

async def relay(reader, writer, seconds):
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()
    async def take():
        while data := await reader.read(65536):
            queue.put_nowait((loop.time() + seconds, data))
        queue.put_nowait((loop.time() + seconds, b""))
    async def give():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                return
            writer.write(data)
            await writer.drain()
    taking = asyncio.ensure_future(take())
    try:
        await give()
    finally:
        taking.cancel()
        writer.close()

async def serve(reader, writer):
    try:
        told = writer.get_extra_info("socket").getsockopt(socket.SOL_IP, 80, 16)
        port, address = struct.unpack("!2xH4s8x", told)  # SO_ORIGINAL_DST: where it was to go
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        there.setblocking(False)
        await asyncio.get_running_loop().sock_connect(there, (socket.inet_ntoa(address), port))
        far_reader, far_writer = await asyncio.open_connection(sock=there)
        await asyncio.gather(relay(reader, far_writer, seconds), relay(far_reader, writer, 0))
    except OSError:
        pass  # whoever connected here sees the same: the connection ends
    finally:
        writer.close()

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()

asyncio.run(main())
"""


def slow_way(host: str, addresses: tuple[str, ...], port: int, milliseconds: int) -> Script:
    """What `host` sends to that TLS port of those addresses gets there so much later.

    Fails where it does not: its own greeting to the first of them has to be that late.
    """
    to = f"ip daddr {{ {', '.join(addresses)} }} tcp dport {port} meta mark != {_MARK}"
    table = (
        f"table ip {TABLE} {{\n"
        f" chain relayed {{ type nat hook output priority -100; {to} redirect to :{_PORT}\n }}\n"
        f" chain direct {{ type filter hook output priority 0; {to} reject with tcp reset\n }}\n}}"
    )
    relay = quoted(("python3", "-c", _RELAY, str(_PORT), str(_MARK), str(milliseconds / 1000)))
    listens = f"ss -Hltn 'sport = :{_PORT}' | grep -q ."
    greeting = f"curl -sk -m 10 -o /dev/null -w '%{{time_total}}' https://{addresses[0]}:{port}/"
    is_late = f"$1 >= {milliseconds / 1000} {{ late = 1 }} END {{ exit !late }}"
    return Script(
        host=host,
        do=f"systemd-run --quiet --collect --unit={UNIT} -p RuntimeMaxSec={LAST_RESORT_SECONDS} "
        f"{relay}\nfor i in $(seq 50); do {listens} && break; sleep 0.2; done\n"
        f"{listens} || {{ echo 'the relay does not listen on port {_PORT}'; exit 1; }}\n"
        f"nft -f - <<'PGHA_NFT'\n{table}\nPGHA_NFT\n"
        f"{{ {greeting} || true; }} | awk {quoted([is_late])} || "
        "{ echo 'what is sent to etcd is not late'; exit 1; }",
        undo=f"nft delete table ip {TABLE} 2>/dev/null || true\n"
        f"systemctl stop {UNIT} 2>/dev/null || true",
        still=f"nft list table ip {TABLE} >/dev/null && systemctl is-active --quiet {UNIT}",
    )
