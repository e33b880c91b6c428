"""A cluster as the usual guides have one make it by hand: no TLS, checks by plain HTTP.

Shell for each host, out of its address and those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SCOPE = "orders"
DATA = "/var/lib/postgresql/17/main"
_APT = "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq || :; apt-get install -y -qq"

_ETCD = """\
{apt} etcd-server etcd-client >/dev/null
systemctl stop etcd; rm -rf /var/lib/etcd/default; chown etcd: /var/lib/etcd
cat >/etc/default/etcd <<END
ETCD_NAME={name}
ETCD_LISTEN_PEER_URLS=http://{address}:2380
ETCD_LISTEN_CLIENT_URLS=http://{address}:2379,http://127.0.0.1:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380
ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379
ETCD_INITIAL_CLUSTER={cluster}
ETCD_INITIAL_CLUSTER_TOKEN=orders
ETCD_INITIAL_CLUSTER_STATE=new
END
systemctl enable -q etcd; systemctl start --no-block etcd
"""

_POSTGRESQL = """\
install -d /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/hand.conf
{apt} postgresql-17 patroni python3-etcd curl >/dev/null; chown postgres: /var/lib/postgresql
cat >/etc/patroni/config.yml <<END
scope: {scope}
name: {name}
restapi: {{listen: "0.0.0.0:8008", connect_address: "{address}:8008"}}
etcd3: {{hosts: "{etcd}"}}
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 150, shared_buffers: 32MB}}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: 0.0.0.0:5432
  connect_address: {address}:5432
  data_dir: {data}
  bin_dir: /usr/lib/postgresql/17/bin
  pgpass: /tmp/pgpass
  authentication:
    replication: {{username: replicator, password: {password}r}}
    superuser: {{username: postgres, password: {password}s}}
  pg_hba:
    - host replication replicator 0.0.0.0/0 md5
    - host all all 0.0.0.0/0 md5
END
chown postgres /etc/patroni/config.yml; chmod 600 /etc/patroni/config.yml
systemctl enable -q patroni; systemctl restart patroni
"""

_BALANCER = """\
{apt} haproxy keepalived psmisc >/dev/null
cat >/etc/haproxy/haproxy.cfg <<END
global
  maxconn 300
defaults
  mode tcp
  retries 2
  timeout client 30m
  timeout connect 4s
  timeout server 30m
  timeout check 5s
listen postgres
  bind *:5432
  option httpchk GET /primary
  http-check expect status 200
  default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
{servers}
END
cat >/etc/keepalived/keepalived.conf <<END
vrrp_script alive {{
  script "/usr/bin/killall -0 haproxy"
  interval 2
}}
vrrp_instance VI_1 {{
  state BACKUP
  interface $(ip -o -4 address show to {address} | awk '{{ print $2 }}')
  virtual_router_id 51
  priority {priority}
  virtual_ipaddress {{
    {virtual}
  }}
  track_script {{
    alive
  }}
}}
END
systemctl enable -q haproxy keepalived; systemctl restart haproxy keepalived
"""


def scripts(spec: Mapping[str, object], password: str) -> Sequence[tuple[str, str]]:
    """(host, shell) in the order in which a person works: etcd, PostgreSQL, the balancers."""
    hosts = spec["hosts"]
    assert isinstance(hosts, dict)
    virtual = spec["keepalived"]["virtual_ip"]  # type: ignore[index]

    def of(role: str) -> Mapping[str, str]:
        return {n: h["address"] for n, h in hosts.items() if role in h["roles"]}

    etcd, postgresql, balancers = of("etcd"), of("patroni"), of("haproxy")
    cluster = ",".join(f"{name}=http://{address}:2380" for name, address in etcd.items())
    servers = "\n".join(
        f"  server {n} {a}:5432 maxconn 100 check port 8008" for n, a in postgresql.items()
    )
    made: list[tuple[str, str]] = []
    for name, address in etcd.items():
        values = {"name": name, "address": address, "cluster": cluster}
        made.append((name, _ETCD.format(apt=_APT, **values)))
    for name, address in postgresql.items():
        asked = ",".join(f"{a}:2379" for a in etcd.values())
        values = {"name": name, "address": address, "etcd": asked, "password": password}
        made.append((name, _POSTGRESQL.format(apt=_APT, scope=SCOPE, data=DATA, **values)))
    for number, (name, address) in enumerate(balancers.items()):
        values = {"address": address, "virtual": virtual, "servers": servers}
        made.append((name, _BALANCER.format(apt=_APT, priority=101 - number, **values)))
    return made
