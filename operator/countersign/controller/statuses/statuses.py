"""The status of policies, audiences and orders: worked out from what is known, written where it differs.

Pure: `policy_status`, `audience_status`, `order_statuses`. `StatusKeeper` applies them, at most once in
PAUSE_SECONDS however much happens.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import structlog

from countersign.api.audience import ProtectedAudience, ProtectedAudienceStatus
from countersign.api.clock import format_time
from countersign.api.meta import condition
from countersign.api.objects import CustomResource
from countersign.api.policy_status import AdmissionCounts, PodCounts, PolicyStatus, ReasonCount
from countersign.api.revocation import Revocation, RevocationStatus
from countersign.cluster.errors import ClusterError
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.statuses.figures import Figures, counts
from countersign.controller.statuses.writing import StatusStore, written
from countersign.controller.watches.rules import AnyPolicyResource
from countersign.controller.watches.world import World
from countersign.grants.conditions import with_condition
from countersign.grants.impact import Impact, hold_message
from countersign.grants.naming import is_refused
from countersign.trust.orders.order_book import OrderBook, is_standing
from countersign.trust.policies.composition import AudienceJudgement, PolicyJudgement, accept
from countersign.trust.policies.policy import NamespaceFacts
from countersign.trust.policies.profiles import effective

PAUSE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Registered(NamedTuple):
    """Whether the API server asks the gate (`controller.webhooks.registration`)."""

    written: bool = False
    """The webhook configurations cover the policies and audiences of now."""
    problem: str = ""
    """Why they do not, or not as strictly as a policy wants."""
    paused: bool = False
    """They were written for a pause: nothing about pods fails closed."""


def policy_status(
    resource: AnyPolicyResource,
    judged: PolicyJudgement,
    figures: Figures,
    impact: Impact | None,
    registered: Registered,
    *,
    now: datetime,
    admissions: AdmissionCounts | None = None,
) -> PolicyStatus:
    """The whole status of a policy."""
    generation = resource.metadata.generation
    conditions = resource.status.conditions
    for kind, status, reason, message in (
        ("Accepted", judged.accepted, judged.accepted_reason, judged.accepted_message),
        ("ResolvedRefs", judged.resolved_refs, judged.resolved_reason, judged.resolved_message),
        ("Ready", *_ready(judged, registered)),
    ):
        conditions = with_condition(conditions, kind, status, reason, message, generation=generation, now=now)
    if impact is not None and impact.held:
        conditions = with_condition(
            conditions, "ImpactHeld", True, "TooManyGrants", hold_message(impact), generation=generation, now=now
        )
    elif condition(conditions, "ImpactHeld") is not None:
        conditions = with_condition(
            conditions, "ImpactHeld", False, "NothingHeld", "No change waits.", generation=generation, now=now
        )
    if figures.first_end is not None:
        first = f"the first at {format_time(figures.first_end)}"
        message = f"Attestations of {figures.expiring} pods will soon be too old, {first}: attest their images anew."
        conditions = with_condition(
            conditions, "EvidenceExpiring", True, "AttestationsAge", message, generation=generation, now=now
        )
    elif condition(conditions, "EvidenceExpiring") is not None:
        conditions = with_condition(
            conditions, "EvidenceExpiring", False, "NothingExpires", "None will be too old soon.",
            generation=generation, now=now,
        )  # fmt: skip
    return PolicyStatus(
        conditions=conditions,
        observed_generation=generation,
        effective=effective(resource.spec),
        pods=PodCounts(
            governed=figures.governed,
            failing=figures.failing,
            unknown=figures.unknown,
            not_injected=figures.not_injected,
            evidence_expiring=figures.expiring,
            evidence_withdrawn=figures.withdrawn,
            missed=figures.missed,
        ),
        top_reasons=tuple(ReasonCount(reason=reason, count=count) for reason, count in figures.reasons),
        admissions=admissions,
    )


def audience_status(
    resource: ProtectedAudience, judged: AudienceJudgement, grants: int, registered: Registered, now: datetime
) -> ProtectedAudienceStatus:
    """The whole status of an audience."""
    generation = resource.metadata.generation
    if not judged.accepted:
        ready: tuple[bool, str, str] = (False, judged.accepted_reason, judged.accepted_message)
    else:
        ready = _in_force(registered)
    conditions = resource.status.conditions
    for kind, status, reason, message in (
        ("Accepted", judged.accepted, judged.accepted_reason, judged.accepted_message),
        ("Ready", *ready),
    ):
        conditions = with_condition(conditions, kind, status, reason, message, generation=generation, now=now)
    return ProtectedAudienceStatus(conditions=conditions, observed_generation=generation, grants=grants)


def revocation_status(
    resource: Revocation, *, ended: int, waiting: int, system_namespace: str, now: datetime
) -> RevocationStatus:
    """The whole status of an order. What it ended stays counted when the grants are collected.

    `ended`: grants that it has ended, as far as they are still there; `waiting`: those that it still has to.
    """
    target = resource.spec.target
    nowhere = [
        one for one in (target.grant, target.pod, target.service_account) if one is not None and not one.namespace
    ]
    if nowhere and resource.metadata.namespace == system_namespace:
        state: tuple[bool | None, str, str] = (
            False,
            "NamespaceMissing",
            "In Countersign's own namespace the target needs `namespace`: create another Revocation that names it.",
        )
    elif waiting:
        state = (None, "InProgress", f"{waiting} grants are being ended.")
    else:
        state = (True, "Applied", "Every grant that it reaches has ended.")
    conditions = with_condition(resource.status.conditions, "Applied", *state, generation=1, now=now)
    return RevocationStatus(conditions=conditions, revoked=max(ended, resource.status.revoked))


def order_statuses(world: World, now: datetime) -> Iterator[tuple[Revocation, RevocationStatus]]:
    """Each order with its status, by one look at the grants."""
    if not world.rules.revocations:
        return
    # One that was carried out reaches nothing any more, unless it stands.
    book = OrderBook(
        (one for one in world.rules.revocations.values() if is_standing(one.spec.target) or not _is_applied(one)),
        world.system_namespace,
    )
    ended: Counter[str | None] = Counter()
    waiting: Counter[str] = Counter()
    for grant in world.grants.values():
        if grant.status.state == "Revoked":
            ended[grant.status.caused_by] += 1
        elif book:
            waiting.update(one.metadata.uid for one in book.against(grant, node=world.node_of(grant)))
    for order in list(world.rules.revocations.values()):
        meta = order.metadata
        status = revocation_status(
            order,
            ended=ended[f"Revocation {meta.namespace}/{meta.name}"],
            waiting=waiting[meta.uid],
            system_namespace=world.system_namespace,
            now=now,
        )
        yield order, status


def _is_applied(order: Revocation) -> bool:
    applied = condition(order.status.conditions, "Applied")
    return applied is not None and applied.status == "True"


class StatusKeeper:
    """Writes what the pure functions above work out."""

    def __init__(
        self,
        world: World,
        store: StatusStore,
        metrics: ControllerMetrics,
        *,
        impacts: Callable[[], Mapping[str, Impact]],
        registered: Callable[[], Registered],
        clock: Callable[[], datetime],
        admissions: Callable[[AnyPolicyResource], AdmissionCounts | None] = lambda _: None,
    ) -> None:
        self._admissions = admissions
        self._world = world
        self._store = store
        self._metrics = metrics
        self._impacts = impacts
        self._registered = registered
        self._clock = clock
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something that stands in a status may be another now."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.write()
            except ClusterError as error:
                _log.warning("status not written, will be tried again", error=str(error))
                self._changed.set()
            await asyncio.sleep(PAUSE_SECONDS)

    async def write(self) -> None:
        """Write every status that differs from what it should be."""
        self._count_grants()
        for resource, status in list(self._due()):
            await written(self._store, resource, status)

    def _due(self) -> Iterator[tuple[CustomResource, msgspec.Struct]]:
        world, now, registered = self._world, self._clock(), self._registered()
        facts = {name: NamespaceFacts(name, labels) for name, labels in world.namespaces.items()}
        judged = accept(world.rules.snapshot(), facts)
        refused = {grant.spec.pod.uid for grant in world.grants.values() if is_refused(grant.metadata.name)}
        figures, impacts = counts(world.live(), refused), self._impacts()
        for policy in judged.policies:
            resource = world.rules.policies.get(policy.ref.uid)
            if resource is not None and resource.metadata.generation == policy.ref.generation:
                uid = policy.ref.uid
                found, impact, admissions = figures.get(uid, Figures()), impacts.get(uid), self._admissions(resource)
                status = policy_status(resource, policy, found, impact, registered, now=now, admissions=admissions)
                yield resource, status
        grants = Counter(
            token.audience
            for grant in world.grants.values()
            if grant.status.state == "Active"
            for token in grant.spec.tokens
        )
        for audience in judged.audiences:
            declared = world.rules.audiences.get(audience.uid)
            if declared is not None and declared.metadata.generation == audience.generation:
                yield declared, audience_status(declared, audience, grants[audience.audience], registered, now)
        yield from order_statuses(world, now)

    def _count_grants(self) -> None:
        states = Counter(grant.status.state or "None" for grant in self._world.grants.values())
        for state in ("Active", "Suspended", "Revoked", "None"):
            self._metrics.grants.labels(state).set(states[state])
        self._metrics.pods.set(len(self._world.pods))
        stands = [one.evidence for one in self._world.live() if one.evidence is not None and not one.track.ended]
        self._metrics.evidence_expiring.set(sum(bool(one.expiring) for one in stands))
        self._metrics.evidence_withdrawn.set(sum(bool(one.withdrawn) for one in stands))


def _ready(judged: PolicyJudgement, registered: Registered) -> tuple[bool, str, str]:
    if not judged.accepted:
        return False, judged.accepted_reason, judged.accepted_message
    if not judged.resolved_refs:
        return False, judged.resolved_reason, judged.resolved_message
    return _in_force(registered)


def _in_force(registered: Registered) -> tuple[bool, str, str]:
    if not registered.written or registered.problem:
        return False, "GateNotRegistered", registered.problem or "The API server does not ask the gate about it yet."
    return True, "Ready", "It is in force."
