"""What cluster.yml says about the hosts themselves. Pure."""

from __future__ import annotations

from builder.spec.section import Section
from builder.spec.types import boolean, mapping_of, one_of, text

NAME = "system"

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
            "Versions to keep to, of packages that a role needs. `ops update` does not overstep "
            "them; any other package is left at the version that is installed until then.",
        ),
    },
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
)
