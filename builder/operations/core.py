"""The operations that concern the cluster as a whole, whatever its roles. Pure: courses."""

from __future__ import annotations

from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Keep,
    Operation,
    OperationError,
    Preview,
    Target,
    Whole,
    refuse_unreachable,
)
from builder.operations.update import update
from builder.security import rotation
from builder.security.rotation import Phase
from builder.security.store import SecretStore

NEW_AUTHORITY = "new-ca"
# The file has settled: the same command would begin another rotation.
_REST = "should this be interrupted now, pgha-build apply does the rest"


def rotate_certificates(target: Target) -> Course:
    """Renew every certificate and its key, with `--new-ca` under new authorities.

    Invariant: a certificate is shown only where everybody trusts who signed it. A rotation that
    was interrupted goes on in the phase that the secrets file is in.
    """
    store = target.secrets
    refuse_unreachable((yield Ask()))
    yield Preview()
    if NEW_AUTHORITY not in target.options and store.phase is Phase.SETTLED:
        yield Confirm(question="Renew all certificates and their keys?")
        yield Keep(label="new keys", change=lambda s: s.rotate(rotation.with_new_leaves))
        yield Converge(why="certificates are renewed")
        yield Whole()
        return
    if store.phase is Phase.SETTLED:
        yield Confirm(
            question="Make new certificate authorities? First, all hosts trust both the old and "
            "the new ones; etcd's members restart one by one, in each of two phases."
        )
        yield Keep(label="new authorities, trusted beside the old", change=_announce)
    if store.phase is Phase.ANNOUNCED:
        yield Converge(why="phase 1 of 3: every host trusts the new authorities, too")
        yield Whole()
        yield Confirm(
            question="Now give clients the new .pgha/*/ca.crt, which holds both certificates. "
            "Have all of them got it? (If not yet: the same command goes on from here.)"
        )
        yield Keep(label="the new authorities sign", change=_switch)
    yield Converge(why="phase 2 of 3: certificates of the new authorities everywhere")
    yield Whole()
    yield Keep(label=f"the old authorities are no longer trusted; {_REST}", change=_settle)
    yield Converge(why="phase 3 of 3: only the new authorities are trusted")
    yield Whole()


def _announce(store: SecretStore) -> None:
    """New leaves each time: Patroni's REST API reads its authorities when it sees a new one."""
    store.announce()
    store.rotate(rotation.with_new_leaves)


def _switch(store: SecretStore) -> None:
    store.rotate(lambda content: rotation.with_new_leaves(rotation.switched(content)))


def _settle(store: SecretStore) -> None:
    store.rotate(lambda content: rotation.with_new_leaves(rotation.settled(content)))


def replace(target: Target) -> Course:
    """Make a blank machine what the dead one was.

    Invariant: nothing is done unless the rest of the cluster can do without that host.
    """
    name = target.word
    if name not in target.spec.hosts:
        known = ", ".join(target.spec.hosts)
        raise OperationError(f"cluster.yml has no host {name}", do=f"Hosts: {known}.")
    seen = yield Ask()
    if why := seen["unreachable"].get(name):
        raise OperationError(
            f"{name} does not answer: {why}",
            do="Put a machine with a bare Debian at its address (or change the address in "
            "cluster.yml), let us log in there, and give the command again.",
        )
    carried = seen["managed"].get(name, 0)
    if carried >= target.sizes.get(name, 1):  # fewer: an earlier replace did not come to its end
        raise OperationError(
            f"{name} is not blank: it carries {carried} resources of this cluster",
            why="Replacing is for a machine that is gone.",
            do="pgha-build apply repairs it; pgha-build ops reinit copies its data anew.",
        )
    for refuse in target.refusals:
        if reason := refuse(target.spec, target.spec.hosts[name], seen):
            raise OperationError(
                f"{name} cannot be replaced now: {reason}",
                do="Wait for that (pgha-build status --watch), then give the command again.",
            )
    yield Confirm(question=f"Make the blank machine at {target.spec.hosts[name].address} {name}?")
    yield Converge(why=f"{name} joins")
    yield Whole(timeout_seconds=600)


OPERATIONS = (
    Operation(
        name="rotate-certificates",
        doc="renew all certificates and keys, without an outage",
        begin=rotate_certificates,
        options=((NEW_AUTHORITY, "under new authorities: trust both, then only the new ones"),),
    ),
    Operation(
        name="replace",
        doc="make a blank machine what a dead one was",
        argument="HOST",
        begin=replace,
    ),
    Operation(name="update", doc="newer packages: replicas first, one switchover", begin=update),
)
