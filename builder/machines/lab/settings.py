"""What `machines:` accepts when the provider is `lab`. Values only, no IO."""

from __future__ import annotations

from typing import Any

RELEASES = ("trixie", "bookworm", "forky")

SCHEMA: dict[str, Any] = {
    "release": {
        "type": "string",
        "allowed": list(RELEASES),
        "default": "trixie",
        "meta": {"doc": "Debian release of the hosts: 13, 12, or testing (forky)."},
    },
    "network": {
        "type": "string",
        "regex": r"[0-9.]+/[0-9]+",
        "meta": {
            "doc": "IPv4 network of the lab, as 10.77.0.0/24. "
            "Default: the /24 that the hosts' addresses share."
        },
    },
    "gateway": {
        "type": "string",
        "regex": r"[0-9.]+",
        "meta": {
            "doc": "Address of this machine in the lab's network; the hosts reach the Internet "
            "through it. Default: the network's last usable address."
        },
    },
}
