"""The policies of a cluster as they would be with files applied and policies deleted."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from countersign.api import clock
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.cli.files.manifests import Declared, as_created
from countersign.cli.terminal.exits import fail
from countersign.signatures.roots.known_roots import known_roots
from countersign.trust.policies.policy import Policy, PolicySnapshot, from_resource

Change = Literal["created", "changed", "unchanged", "deleted"]


class Proposal(NamedTuple):
    """The policies as they would be."""

    snapshot: PolicySnapshot
    changes: dict[str, Change]
    """By UID, those that the proposal names."""


def propose(snapshot: PolicySnapshot, declared: Iterable[Declared], deleted: Iterable[str]) -> Proposal:
    """The snapshot as it would be with these objects applied and these policies deleted. Ends the command on a policy
    that is not there.
    """
    now = clock.format_time(datetime.now(UTC))
    policies = {(one.ref.namespace, one.ref.name): one for one in snapshot.policies}
    audiences = {one.metadata.name: one for one in snapshot.audiences}
    orders = list(snapshot.revocations)
    exceptions = {one.metadata.name: one for one in snapshot.exceptions}
    roots: list[EvidenceRoot] = []
    changes: dict[str, Change] = {}
    for one in declared:
        meta = one.metadata
        if isinstance(one, ClusterTrustPolicy | TrustPolicy):
            made = from_resource(one)
            known = policies.get((meta.namespace, meta.name))
            changed, change = _applied(made, known, now)
            policies[(meta.namespace, meta.name)] = changed
            changes[changed.ref.uid] = change
        elif isinstance(one, ProtectedAudience):
            held = audiences.get(meta.name)
            created = held.metadata.creation_timestamp if held else now
            meta = msgspec.structs.replace(
                meta, uid=held.metadata.uid if held else f"new {meta.name}", creation_timestamp=created
            )
            audiences[meta.name] = msgspec.structs.replace(one, metadata=meta)
        elif isinstance(one, EvidenceRoot):
            roots.append(one)
        elif isinstance(one, TrustException):
            held_exception = exceptions.get(meta.name)
            changed_exception = (
                msgspec.structs.replace(one, metadata=held_exception.metadata) if held_exception else one
            )
            exceptions[meta.name] = as_created(changed_exception)
        else:
            orders.append(one)
    for name in deleted:
        namespace, _, own = name.rpartition("/")
        gone = policies.pop((namespace, own), None)
        if gone is None:
            kind = f"TrustPolicy {name}" if namespace else f"ClusterTrustPolicy {name}"
            fail(f"--delete {name}: there is no {kind}")
        changes[gone.ref.uid] = "deleted"
    made_of = msgspec.structs.replace(
        snapshot,
        policies=tuple(policies.values()),
        audiences=tuple(audiences.values()),
        revocations=tuple(orders),
        exceptions=tuple(exceptions.values()),
        roots=known_roots(snapshot).replaced(roots) if roots else snapshot.roots,
    )
    return Proposal(made_of, changes)


def _applied(made: Policy, known: Policy | None, now: str) -> tuple[Policy, Change]:
    if known is None:
        ref = made.ref._replace(uid=f"new {made.ref}", generation=1)
        return Policy(ref=ref, spec=made.spec, created=now), "created"
    if made.spec == known.spec:
        return known, "unchanged"
    ref = known.ref._replace(generation=known.ref.generation + 1)
    return Policy(ref=ref, spec=made.spec, created=known.created), "changed"
