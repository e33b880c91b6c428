"""A systemd unit's state: enabled, running, and running what is on disk. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import (
    Absent,
    Action,
    Change,
    Impact,
    Observed,
    Present,
    Resource,
    Unknown,
    quoted,
)
from builder.resources.gate import journal
from builder.resources.steps import Await, Run, Shell, Step

_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,FragmentPath,"
    "ConditionResult,ConditionTimestampMonotonic"
)
_OWN = "/etc/systemd/system"
_STARTS = ("start-pre", "start", "start-post")
START_SECONDS = 15  # in which systemd starts what failed to start once more


@dataclass(frozen=True, kw_only=True)
class Unit(Resource):
    """A unit; `name` with its suffix. Its files are resources of their own.

    `restart_on` and `reload_on` are addresses whose change makes it restart or reload: once per
    apply, however many of them change. `restart_impact` is what a restart costs the service. Those
    of them in `stopped_by` stop it when they change: then it is just started, and no turn is waited
    for. `wait` is False for a unit whose start ends only when others have started too; a gate says
    when it is up.

    Of a rolling `group`, one member at a time is restarted. These are shell: `before_restart` is a
    condition that must come to hold first (it may work towards it), `after_restart` one that must
    hold again before the next turn, and `last` prints a number: the lowest goes first.
    `after_reload` is a condition that shows that what was reloaded is in force.
    `before_stop` is a condition that must come to hold before the unit leaves the host for good.
    """

    kind: ClassVar[str] = "unit"

    running: bool = True
    enabled: bool | None = True
    restart_on: tuple[str, ...] = ()
    stopped_by: tuple[str, ...] = ()
    reload_on: tuple[str, ...] = ()
    restart_impact: Impact = Impact.RESTART
    before_restart: str = ""
    after_restart: str = ""
    after_reload: str = ""
    before_stop: str = ""
    last: str = ""
    group: str | None = None
    wait: bool = True
    timeout_seconds: int = 300

    def attributes(self) -> Mapping[str, object]:
        enabled = {True: "enabled", False: "disabled"}
        wanted = {"state": "running" if self.running else "stopped", "definition": "current"}
        return wanted | ({} if self.enabled is None else {"startup": enabled[self.enabled]})

    def triggers(self) -> Mapping[str, Impact]:
        reloads = dict.fromkeys(self.reload_on, Impact.RELOAD)
        return reloads | dict.fromkeys(self.restart_on, Impact.RESTART)

    def turn(self) -> str:
        return self.last

    def impact(self, change: Change) -> Impact:
        if change.action is Action.CREATE or not self._is_running(change):
            return Impact.NONE
        if change.action is Action.DELETE:
            return self.restart_impact
        if self._restarts(change):
            return self.restart_impact
        return Impact.RELOAD if change.trigger else Impact.NONE

    def _is_running(self, change: Change) -> bool:
        """When the change's turn comes, as far as we know."""
        return _was_running(change) and not self._was_stopped(change)

    def _was_stopped(self, change: Change) -> bool:
        return not {*self.stopped_by}.isdisjoint(change.triggered)

    def _restarts(self, change: Change) -> bool:
        return change.trigger >= Impact.RESTART or change.changes("definition")

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """NeedDaemonReload overlooks a new file in /etc that hides the one systemd has read."""
        names = quoted(unit.name for unit in wanted)
        own = f"for u in {names}; do [ -L {_OWN}/$u ] || [ ! -f {_OWN}/$u ] || echo $u; done"
        return f"systemctl show -p {_PROPERTIES} -- {names} 2>&1; echo @own; {own}"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        """`systemctl show` answers in the order of the question, blocks apart by an empty line."""
        shown, _, own = output.partition("@own\n")
        blocks = [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in shown.strip().split("\n\n")
        ]
        if len(blocks) != len(wanted):
            return {unit.name: Unknown("systemctl: " + shown.strip()[:200]) for unit in wanted}
        return {
            unit.name: unit._observed(block, hidden=unit.name in own.split())
            for unit, block in zip(wanted, blocks, strict=True)
        }

    def _observed(self, seen: Mapping[str, str], *, hidden: bool) -> Observed:
        if seen.get("LoadState") == "not-found":
            return Absent()
        if "ActiveState" not in seen:
            return Unknown("systemctl did not tell its state")
        state, note = self._state(seen)
        other = hidden and seen.get("FragmentPath") != f"{_OWN}/{self.name}"
        outdated = seen.get("NeedDaemonReload") == "yes" or other
        attributes = {"state": state, "definition": "outdated" if outdated else "current"}
        if self.enabled is not None:
            attributes["startup"] = seen.get("UnitFileState") or "unknown"
        return Present(attributes=attributes, note=note)

    def _state(self, seen: Mapping[str, str]) -> tuple[str, str]:
        active = seen["ActiveState"]
        if active in {"active", "reloading"}:
            return "running", ""
        if not self.wait and active == "activating" and seen.get("SubState") in _STARTS:
            return "running", ""  # its gate says when it is up
        refused = seen.get("ConditionResult") == "no"
        if self.running and refused and seen.get("ConditionTimestampMonotonic", "0") != "0":
            return "running", "kept from starting by a condition of its own unit"
        return ("stopped" if active == "inactive" else f"{active} ({seen.get('SubState')})"), ""

    def steps(self, change: Change) -> Sequence[Step]:
        steps: list[Step] = [Shell(script=self._definition())]
        if self.enabled is not None and _startup_differs(change):
            steps.append(Shell(script=self._startup()))
        if not self.running:
            return (*steps, self._systemctl("stop"))
        if not self._is_running(change):
            return (*steps, *self._started(change))
        if self._restarts(change):
            if self.before_restart:
                steps.append(self._await("may be restarted", self.before_restart))
            return (*steps, *self._runs("restart"), *self._recovery())
        return (*steps, self._systemctl("reload"), *self._effect()) if change.trigger else steps

    def _started(self, change: Change) -> Sequence[Step]:
        """It may run by now, with what was there before: systemd starts again what has crashed.

        Then it is asked whether it may be restarted, as in its turn, which it does not wait for.
        """
        reset = Run(argv=("systemctl", "reset-failed", self.name), accept=(0, 1))
        new = change.action is Action.CREATE or self._was_stopped(change)
        if new or not (change.trigger or self._restarts(change)):
            return (reset, *self._runs("start"))
        if not self._restarts(change):
            return (reset, *self._runs("reload-or-restart"))
        down = f"systemctl is-active --quiet {quoted([self.name])} || exit 0"
        asked = self._await("may be restarted", f"{down}\n{self.before_restart}")
        return (*([asked] if self.before_restart else []), reset, *self._runs("restart"))

    def _definition(self) -> str:
        """Let systemd read its files again, only if they have changed."""
        name, own = quoted([self.name]), quoted([f"{_OWN}/{self.name}"])
        return (
            f'[ "$(systemctl show -P NeedDaemonReload {name})" = no ] && '
            f"{{ [ -L {own} ] || [ ! -f {own} ] || "
            f'[ "$(systemctl show -P FragmentPath {name})" = {own} ]; }} '
            "|| systemctl daemon-reload"
        )

    def _recovery(self) -> Sequence[Step]:
        return (self._await("has recovered", self.after_restart),) if self.after_restart else ()

    def _effect(self) -> Sequence[Step]:
        return (self._await("has reloaded", self.after_reload),) if self.after_reload else ()

    def _await(self, what: str, condition: str) -> Step:
        return Await(
            what=f"{self.name} {what}", condition=condition, timeout_seconds=self.timeout_seconds
        )

    def _startup(self) -> str:
        unit = quoted([self.name])
        if not self.enabled:
            return f"systemctl disable {unit}"
        return f"systemctl unmask {unit}; systemctl enable {unit}"

    def _runs(self, verb: str) -> Sequence[Step]:
        """What counts is that it runs: a first start that failed is made good by Restart=always."""
        told = "systemctl show -p ActiveState,SubState,Result,Job," + (
            "ConditionResult,ConditionTimestampMonotonic"
        )
        good = ["*ActiveState=active*", "*ActiveState=reloading*"]
        if not self.wait:
            good.append("*ActiveState=activating*SubState=start*")  # as in _STARTS
        settled = (
            f"s=$({told} -- {quoted([self.name])}); echo $s\n"
            "case $s in *ConditionTimestampMonotonic=0*) ;; *ConditionResult=no*) exit 0 ;; esac\n"
            "case $s in *ActiveState=active*Job=[1-9]*|*Job=[1-9]*ActiveState=active*) exit 1 ;; "
            f"{'|'.join(good)}) ;; *) exit 1 ;; esac"
        )
        begun = self._systemctl(verb, accept=(0, 1))
        return begun, Await(
            what=f"{self.name} runs", condition=settled, timeout_seconds=START_SECONDS
        )

    def _systemctl(self, verb: str, accept: tuple[int, ...] = (0,)) -> Step:
        block = () if self.wait else ("--no-block",)
        argv = ("systemctl", verb, *block, self.name)
        return Run(argv=argv, timeout_seconds=self.timeout_seconds, accept=accept)

    def diagnose(self) -> str:
        return journal((self.name,))

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        """`impact` as it was recorded: what leaves may have been a leader."""
        return cls(
            hosts=hosts,
            name=name,
            before_stop=recalled.get("before_stop", ""),
            restart_impact=Impact[recalled.get("impact", "restart").upper()],
        )

    def recall(self) -> Mapping[str, str]:
        if not self.before_stop:
            return {}
        return {"before_stop": self.before_stop, "impact": str(self.restart_impact)}

    def removal(self) -> Sequence[Step]:
        unit = quoted([self.name])
        script = f"systemctl disable --now {unit} 2>/dev/null || systemctl stop {unit}"
        stop = Shell(script=script, timeout_seconds=self.timeout_seconds)
        return (self._await("may leave", self.before_stop), stop) if self.before_stop else (stop,)

    def is_gone(self, observed: Present) -> bool:
        """Its package may still be there, and have brought its file."""
        seen = observed.attributes
        return seen.get("state") != "running" and seen.get("startup") != "enabled"


def _was_running(change: Change) -> bool:
    observed = change.observed
    return isinstance(observed, Present) and observed.attributes.get("state") == "running"


def _startup_differs(change: Change) -> bool:
    return not isinstance(change.observed, Present) or change.changes("startup")
