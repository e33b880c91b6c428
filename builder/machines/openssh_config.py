"""What ~/.ssh/config says of a host. OpenSSH itself is asked, so `Include` and `Match` count."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.errors import MachineError

Said = Mapping[str, Sequence[str]]  # each key to its values, as `ssh -G` prints them (ssh(1))

_NOBODY = "pgha-build-nobody"
_TELLING = ("user", "port", "identityfile", "proxyjump", "userknownhostsfile")
_LISTS = {"identityfile", "userknownhostsfile"}


class OpenSshConfig:
    """One configuration; `file` None is the user's own and the system's."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._options = ("-F", str(file)) if file else ()
        self._nobody = self._asked(_NOBODY, *self._options)
        self._defaults = self._asked(_NOBODY, "-F", "/dev/null")

    def of(self, *names: str) -> Said:
        """What is said of the first of these names that is mentioned; else of the last.

        Lists that are OpenSSH's own defaults are left out.
        """
        said: Said = {}
        for name in names:
            said = self._asked(name, *self._options)
            if self._mentioned(said, name):
                break
        return {
            key: values
            for key, values in said.items()
            if key not in _LISTS or values != self._defaults.get(key)
        }

    def own(self, said: Said, key: str) -> str:
        """What is said of this host and not of everybody; else empty."""
        values = said.get(key, ())
        return values[0] if values and values != self._nobody.get(key) else ""

    def _mentioned(self, said: Said, name: str) -> bool:
        other = any(said.get(key) != self._nobody.get(key) for key in _TELLING)
        return other or list(said.get("hostname", ())) != [name]

    @staticmethod
    def _asked(name: str, *options: str) -> Said:
        try:
            argv = ["ssh", *options, "-G", "--", name]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise MachineError(
                "ssh is not installed here",
                why="It says what ~/.ssh/config means for a host.",
                do="apt-get install openssh-client",
            ) from None
        if done.returncode:
            raise MachineError(
                f"ssh could not read its configuration: {done.stderr.strip()}",
                do="Try `ssh -G HOST`; machines.ssh_config names another file.",
            )
        found: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            found.setdefault(key.lower(), []).append(value)
        return found
