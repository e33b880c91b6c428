"""Every exception that pgha-build raises on purpose.

    PghaError                 what, why, what to do; never logs or prints
    ├── SpecError             cluster.yml is wrong: carries all diagnostics
    ├── SecretsError          the secrets file is missing, unreadable, or open to others
    ├── MachineError          the machine provider cannot do what was asked
    ├── TransportError        a host could not be reached, or the connection broke (host)
    │   ├── AuthenticationError
    │   ├── HostKeyError      the host's key is not known
    │   │   └── ChangedHostKeyError  … it is another than the known one (both fingerprints)
    │   ├── ConnectionLost    it worked, then it broke
    │   └── CommandTimeout    the host did not finish in time
    ├── LockedError           somebody else is applying (holder)
    ├── PlanError             a plan that cannot be made (cycle, unknown dependency, refusal)
    └── StalePlanError        a saved plan, and the world has moved on

Users' mistakes are values (`builder.diagnostics`); a broken world is an exception with fields.
"""

from __future__ import annotations


class PghaError(Exception):
    """Base of all; `what` happened, `why` it matters, what to `do`. Never holds a secret."""

    def __init__(self, what: str, *, why: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.do = do

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.do) if part)


class SpecError(PghaError):
    """cluster.yml is wrong; `diagnostics` lists every mistake found."""

    def __init__(self, diagnostics: tuple[object, ...]) -> None:
        super().__init__("\n".join(str(diagnostic) for diagnostic in diagnostics))
        self.diagnostics = diagnostics


class SecretsError(PghaError):
    """The secrets file is missing, unreadable, or readable by others."""


class MachineError(PghaError):
    """The machine provider cannot do what was asked."""


class TransportError(PghaError):
    """A host could not be reached, or the connection broke."""

    def __init__(self, host: str, what: str, *, why: str = "", do: str = "") -> None:
        super().__init__(f"{host}: {what}", why=why, do=do)
        self.host = host


class AuthenticationError(TransportError):
    """The host answers, and refuses us."""


class HostKeyError(TransportError):
    """The host's key is not known."""


class ChangedHostKeyError(HostKeyError):
    """The host's key is another than the known one: nothing is planned or changed anywhere."""


class ConnectionLost(TransportError):
    """The connection worked, then it broke."""


class CommandTimeout(TransportError):
    """The host did not finish within its time limit."""


class LockedError(PghaError):
    """Somebody else is applying to this cluster."""


class PlanError(PghaError):
    """A plan that cannot be made."""


class StalePlanError(PghaError):
    """A saved plan was given, and the world has moved on since it was made."""
