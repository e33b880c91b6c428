"""Which packages go when they have left the spec: the shell itself, with an apt of our own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from builder import debian
from builder.resources.base import Absent, Action, Change
from builder.resources.package import Package

# Who needs whom: taking away a name takes along who needs it.
APT = """\
#!/bin/sh
case "$*" in
  *-s*remove*)
    while [ $# -gt 0 ] && [ "$1" != remove ]; do shift; done; shift
    for n; do
      echo "Remv $n [1]"
      case $n in
        ca-certificates) echo "Remv patroni [4]" ;;
        curl) echo "Remv keepalived [2]" ;;
      esac
    done ;;
  *remove*) echo "$*" >>$LOG ;;
  *install*) [ ! -e "$FAILS" ] || exit 1; echo "$*" >>$LOG ;;
esac
"""


class Host:
    def __init__(self, folder: Path) -> None:
        self.folder, self.noted, self.log = folder, folder / "packages", folder / "log"
        for name, text in (("apt-get", APT), ("dpkg-query", "#!/bin/sh\nexit 1\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["dash", "-c", "set -e\n" + script.replace(debian._OURS, str(self.noted))],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "LOG": str(self.log),
                "FAILS": str(self.folder / "fails"),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def remove(self, *names: str) -> str:
        done = self.run(debian.remove(names))
        assert done.returncode == 0, done.stderr
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_we_installed_goes_and_is_forgotten(host: Host) -> None:
    host.noted.write_text("haproxy\n")
    assert host.remove("haproxy").endswith("remove haproxy\n")
    assert host.noted.read_text() == ""


def test_what_was_there_before_stays(host: Host) -> None:
    host.noted.write_text("haproxy\n")
    assert host.remove("curl", "chrony") == ""
    assert host.noted.read_text() == "haproxy\n"


def test_what_others_need_stays_unless_they_go_as_well(host: Host) -> None:
    host.noted.write_text("ca-certificates\ncurl\nkeepalived\n")
    assert host.remove("ca-certificates") == ""
    assert host.remove("curl") == ""
    assert host.remove("curl", "keepalived").endswith("remove curl keepalived\n")
    assert host.noted.read_text() == "ca-certificates\n"


def test_only_what_was_missing_and_has_been_installed_is_noted_as_ours(host: Host) -> None:
    item = Package(hosts=("a",), name="haproxy")
    (step,) = item.steps(Change(resource=item, action=Action.CREATE, observed=Absent()))
    (host.folder / "fails").touch()
    assert host.run(step.script).returncode != 0
    assert not host.noted.exists()
    (host.folder / "fails").unlink()
    assert host.run(step.script).returncode == 0
    assert host.noted.read_text() == "haproxy\n"
    (host.folder / "dpkg-query").write_text("#!/bin/sh\nprintf installed\n")
    host.noted.unlink()
    assert host.run(step.script).returncode == 0
    assert not host.noted.exists()
