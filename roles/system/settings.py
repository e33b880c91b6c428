"""What cluster.yml says about the hosts themselves. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from builder.spec.model import ClusterSpec, Problem
from builder.spec.section import Section
from builder.spec.types import boolean, list_of, mapping_of, one_of, optional, required, table, text

NAME = "system"

_SOURCE = table(
    {
        "url": required(
            text(
                "Where it is, without user and password: these belong into /etc/apt/auth.conf.d/ "
                "on each host (apt_auth.conf(5)).",
                pattern=r"(https?|file)://?[A-Za-z0-9./_~:@-]+",
                expects="a URL such as `https://apt.postgresql.org/pub/repos/apt`",
            )
        ),
        "suite": required(
            text(
                "Which distribution in it, such as `trixie-pgdg`; one that ends with `/` is a "
                "folder of packages.",
                pattern=r"[A-Za-z0-9._/-]+",
                expects="a suite such as `trixie-pgdg`",
            )
        ),
        "components": list_of(
            text("A component.", pattern=r"[A-Za-z0-9.-]+"), "Parts of it.", default=("main",)
        ),
        "key": required(
            text(
                "The key that signs it, in base64: `gpg --dearmor <KEY.asc | base64 -w0`.",
                pattern=r"[A-Za-z0-9+/]+={0,2}",
                expects="a key in base64, on one line",
                longest=65536,
            )
        ),
    },
    "A repository.",
)


# Of two, writing one zeroes the other (Linux, Documentation/admin-guide/sysctl/vm.rst).
_PAIRS = (
    ("vm.dirty_bytes", "vm.dirty_ratio"),
    ("vm.dirty_background_bytes", "vm.dirty_background_ratio"),
    ("vm.overcommit_ratio", "vm.overcommit_kbytes"),
)
COUNTERPARTS = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


def _check_system(spec: ClusterSpec) -> Iterable[Problem]:
    named = spec.sections[NAME]["sysctl"]
    for one, other in _PAIRS:
        if one in named and other in named:
            yield Problem(
                path=(NAME, "sysctl", other),
                message=f"the kernel knows either {other} or {one}",
                advice="name one of them: writing one zeroes the other",
            )


def _check_packages(spec: ClusterSpec) -> Iterable[Problem]:
    section = spec.sections["packages"]
    yield from _without_credentials(
        ("packages", "python_index"),
        section["python_index"] or "",
        "write them into /root/.netrc on each database host: pip reads it",
    )
    for name, source in section["sources"].items():
        yield from _without_credentials(
            ("packages", "sources", name, "url"),
            source["url"],
            "write them into a file in /etc/apt/auth.conf.d/ on each host: apt reads it",
        )
        try:
            content = base64.b64decode(source["key"], validate=True)
        except ValueError:
            content = b""
        # The first octet of a binary OpenPGP packet has its highest bit set (RFC 9580, 4.2).
        if not content or not content[0] & 0x80:
            yield Problem(
                path=("packages", "sources", name, "key"),
                message="this is no OpenPGP key in base64",
                advice="gpg --dearmor <KEY.asc | base64 -w0",
            )


_CREDENTIALS = re.compile(r"https?:/+[^/]*@")


def _without_credentials(path: tuple[str, ...], url: str, advice: str) -> Iterable[Problem]:
    """They would be in plans, in a file that all may read, and in pip's arguments."""
    if _CREDENTIALS.match(url):
        yield Problem(
            path=path, message="a user and password do not belong into this URL", advice=advice
        )


PACKAGES = Section(
    doc="What is installed.",
    schema={
        "versions": mapping_of(
            text(
                "A Debian package.",
                pattern=r"[a-z0-9][a-z0-9+.-]+",
                expects="a package name such as `postgresql-17`",
                longest=100,
            ),
            text(
                "Its version.",
                pattern=r"([0-9]+:)?[0-9][A-Za-z0-9.+~-]*\*?",
                expects="a version such as `17.5-1`, or the beginning of one such as `17.5*`",
                longest=100,
            ),
            "Versions to keep to, of packages that a role needs: `plan` refuses the name of any "
            "other. `ops update` does not overstep them; what is not named is left at the version "
            "that is installed until then.",
        ),
        "sources": mapping_of(
            text("A name for it.", pattern=r"[a-z0-9][a-z0-9-]{0,30}"),
            _SOURCE,
            "Repositories to install from, beside those that the hosts have: PostgreSQL's own "
            "(apt.postgresql.org), or a mirror of yours.",
        ),
        "python_index": optional(
            text(
                "A mirror of PyPI, for programs that come from there (`patroni.pypi_version`), "
                "without user and password: these belong into /root/.netrc on each host.",
                pattern=r"https?://[A-Za-z0-9./_~:@-]+",
                expects="a URL such as `https://pypi.org/simple`",
            )
        ),
    },
    check=_check_packages,
)

SECTION = Section(
    doc="The hosts themselves. Applied to every host, without being named in its roles.",
    schema={
        "hosts_file": boolean(True, "Write the hosts' names into /etc/hosts, in a marked block."),
        "time": one_of(
            ("chrony", "other"),
            "chrony",
            "`chrony` installs and runs it; `other` leaves the clock to you. Patroni's leases need "
            "clocks that do not jump.",
        ),
        "firewall": boolean(
            True,
            "Close the cluster's ports to hosts that have no business there, in an nftables table "
            "of our own. Every other port, SSH above all, is left alone.",
        ),
        "sysctl": mapping_of(
            text("A key.", pattern=r"[a-z0-9_]+(\.[a-zA-Z0-9_-]+)+"),
            text("Its value.", pattern=r"[A-Za-z0-9_. -]+", longest=100),
            "Kernel parameters, in addition to ours or instead of them; values are text.",
        ),
    },
    check=_check_system,
)
