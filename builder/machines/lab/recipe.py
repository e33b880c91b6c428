"""What the root file system of a lab host is made of. Pure: a recipe in, files and a digest out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from builder.machines.lab.layout import INTERFACE

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3-minimal",
    "iproute2",
    "iputils-ping",
    "procps",
    "nftables",
    "ca-certificates",
    "sudo",
    "curl",
    "less",
)  # no libpam-systemd: it makes every login wait for a session
# What programs of the roles need and what does nothing by itself: half of the work of installing
# them, which each host would do anew. The programs themselves are for `apply` to install.
LIBRARIES = (
    "libipc-run-perl",
    "libjson-perl",
    "libnl-genl-3-200",
    "libpci3",
    "libpq5",
    "libxslt1.1",
    "locales",
    "media-types",
    "netbase",
    "perl",
    "python3-click",
    "python3-dateutil",
    "python3-etcd",
    "python3-prettytable",
    "python3-psutil",
    "python3-psycopg2",
    "python3-yaml",
    "ssl-cert",
)
_SINCE_13 = ("linux-sysctl-defaults", "python3-ydiff")
OF_RELEASE = {
    "trixie": (*_SINCE_13, "libllvm19", "libsnmp40t64"),
    "bookworm": ("python3-cdiff", "libllvm14", "libsnmp40"),
    "forky": _SINCE_13,
}

AUTHORITIES = "usr/local/share/ca-certificates"  # update-ca-certificates(8)

MASKED = (
    "apt-daily.timer",  # would hold apt's lock while somebody installs
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "sshd-keygen.service",  # a host's key is made by the lab, which therefore knows it
    "console-getty.service",
    "systemd-networkd.service",  # the address is static; nobody else may tidy it away
    "systemd-networkd.socket",
)

# Sets the address and never removes one, so that a virtual IP stays where keepalived put it.
NETWORK_UNIT = f"""\
[Unit]
Description=Static address of this lab host
DefaultDependencies=no
Before=network.target
Wants=network.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/pgha-lab-network
ExecStart=/usr/sbin/ip link set {INTERFACE} up
ExecStart=/usr/sbin/ip address replace ${{ADDRESS}} dev {INTERFACE}
ExecStart=/usr/sbin/ip route replace default via ${{GATEWAY}} dev {INTERFACE}

[Install]
WantedBy=sysinit.target
"""

SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
MaxStartups 100:30:200
"""

# Debian's without its message of the day, for which every login starts half a dozen processes.
PAM_SSHD = """\
@include common-auth
account required pam_nologin.so
@include common-account
@include common-session
session required pam_limits.so
session required pam_env.so
@include common-password
"""

FILES = {
    "etc/systemd/system/pgha-lab-network.service": NETWORK_UNIT,
    # /proc/sys is read-only but for net/, for which reason systemd would skip all of it
    "etc/systemd/system/systemd-sysctl.service.d/lab.conf": "[Unit]\nConditionPathIsReadWrite=\n",
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n",
    "etc/dpkg/dpkg.cfg.d/lab": "force-unsafe-io\n"
    "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n",
    "etc/apt/apt.conf.d/80lab": 'Acquire::Languages "none";\nAcquire::Retries "3";\n',
    "etc/pam.d/sshd": PAM_SSHD,
    "etc/machine-id": "",
}
_NO_PENALTIES = "PerSourcePenalties no\n"
SSHD_OF_RELEASE = {"trixie": _NO_PENALTIES, "bookworm": "", "forky": _NO_PENALTIES}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what is in the root file system.

    `apt` holds apt's settings of this machine that a host needs too, as `name: value`.
    `authorities` are certificates that somebody has told this machine to trust, by file name.
    """

    release: str
    mirror: str
    security_mirror: str
    apt: Mapping[str, str]
    authorities: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[str, ...]:
        return PACKAGES + LIBRARIES + OF_RELEASE[self.release]

    @property
    def sources(self) -> tuple[str, ...]:
        """apt's source lines, updates and security fixes included."""
        return (
            f"deb {self.mirror} {self.release} main",
            f"deb {self.mirror} {self.release}-updates main",
            f"deb {self.security_mirror} {self.release}-security main",
        )

    @property
    def files(self) -> Mapping[str, str]:
        """Files to write, path without the leading slash to text."""
        sshd = SSHD + SSHD_OF_RELEASE[self.release]
        trusted = {f"{AUTHORITIES}/{name}": text for name, text in self.authorities.items()}
        return {**FILES, **trusted, "etc/ssh/sshd_config.d/lab.conf": sshd}

    @property
    def links(self) -> Mapping[str, str]:
        """Symbolic links to make: units that are masked or enabled."""
        units = "etc/systemd/system"
        masked = {f"{units}/{unit}": "/dev/null" for unit in MASKED}
        enabled = f"{units}/sysinit.target.wants/pgha-lab-network.service"
        return {**masked, enabled: "../pgha-lab-network.service"}

    @property
    def name(self) -> str:
        """Release and digest of the whole recipe: another recipe is another directory."""
        parts = [self.packages, self.sources, dict(self.apt), dict(self.files), dict(self.links)]
        digest = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"{self.release}-{digest[:12]}"
