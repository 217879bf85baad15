"""How the tokens of each grant are used: collected from the verifiers, recorded in the grants' statuses, seldom.

The numbers of every verifier are kept in memory and summed up by `access.uses`; `access.misuse` says what is wrong with
them. Nothing is written here: a pod about which something is to be recorded is put on the work queue, and reconciling
writes it, together with what else there is to write, under the same lock. So what was found once stands in the grant,
in one write with the end that it may mean, and whoever leads next neither repeats nor forgets it.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from countersign.access.misuse import (
    DEFAULT_LIMITS,
    Finding,
    Instance,
    Limits,
    Replica,
    findings,
    still_counts,
    unlike_siblings,
)
from countersign.access.use import canonical_address
from countersign.access.uses import is_due, larger, recorded, seconds_of, together
from countersign.api import clock
from countersign.api.audience import SourceAddresses
from countersign.api.grant import GrantMisuse, WorkloadGrant, WorkloadGrantStatus
from countersign.api.names import API_VERSION
from countersign.api.verifier_calls import TokenUses, UsesReport
from countersign.cluster.events import Events, ObjectReference
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.pod_record import PodRecord
from countersign.controller.watches.world import World
from countersign.grants.conditions import bounded
from countersign.grants.lifecycle import DRAINED
from countersign.runtime.logs import pod_keys
from countersign.trust.policies.policy import PolicySnapshot

COMPARE_SECONDS: Final = 60.0
"""How often replicas are compared with each other; sooner where a shorter time of use counts."""
MAX_VERIFIERS: Final = 16
"""Verifiers whose numbers are kept for one pod; of more, those that started last."""
BATCH: Final = 200
"""Uses taken in at one go; in between the loop takes care of what ends."""
SPREAD: Final = 0.25
"""So much longer than `record_seconds` some grants wait, each always as long: what began together is not written so."""

_log = structlog.get_logger(__name__)


class UseKeeper:
    """Keeps what is known of uses. `wake` is told of a pod whose grant is to be written."""

    def __init__(
        self,
        world: World,
        events: Events,
        metrics: ControllerMetrics,
        *,
        ask: Callable[[], Awaitable[Sequence[UsesReport]]],
        record_seconds: float,
        clock: Callable[[], datetime],
        wake: Callable[[str], None],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._world = world
        self._events = events
        self._metrics = metrics
        self._ask = ask
        self._record_seconds = record_seconds
        self._clock = clock
        self._wake = wake
        self._limits = limits
        self._following_since = clock().timestamp()
        """All addresses that pods have had since then are known."""
        self._uses: dict[str, dict[str, dict[str, TokenUses]]] = {}
        """By UID of the pod, audience and verifier."""
        self._unlike: dict[str, Finding] = {}
        self._ended: dict[str, float] = {}
        """When pods were first known to be over, where their grants do not tell."""
        self._worth: tuple[PolicySnapshot | None, Mapping[str, SourceAddresses]] = (None, {})

    async def run(self, every: float) -> None:
        """Collect until cancelled."""
        self._following_since = self._clock().timestamp()
        compare_at = 0.0
        while True:
            await self.collect()
            now = asyncio.get_running_loop().time()
            if now >= compare_at:
                await self.compare()
                compare_at = now + min(COMPARE_SECONDS, self._limits.settled_seconds)
            await asyncio.sleep(every)

    async def collect(self) -> None:
        """One round: ask, and wake the pods that have something to record."""
        touched: dict[str, None] = {}
        taken = 0
        for report in await self._ask():
            for use in report.uses:
                if self._world.grants_of(use.pod_uid):
                    self._take(report.verifier, use)
                    touched[use.pod_uid] = None
                taken += 1
                if taken % BATCH == 0:
                    await asyncio.sleep(0)
        for index, uid in enumerate(touched):
            self._wake_if_due(uid)
            if index % BATCH == 0:
                await asyncio.sleep(0)

    async def compare(self) -> None:
        """Compare each pod with its replicas, and let go of those that have no grant any more."""
        for known in (self._uses, self._ended):
            for uid in [uid for uid in known if not self._world.grants_of(uid)]:
                known.pop(uid)
        groups: dict[str, list[Replica]] = {}
        grants = [grant for grant in self._world.grants.values() if grant.spec.controller is not None]
        # Who may hold one audience only can be unlike nobody who holds as much.
        several = {_controller(grant) for grant in grants if len(grant.spec.tokens) > 1}
        for index, grant in enumerate(grants):
            if _controller(grant) in several:
                groups.setdefault(_controller(grant), []).append(self._replica(grant))
            if index % BATCH == 0:
                await asyncio.sleep(0)
        now = self._clock().timestamp()
        unlike: dict[str, Finding] = {}
        for replicas in groups.values():
            await asyncio.sleep(0)
            users = Counter(audience for one in replicas for audience in one.used)
            for one in replicas:
                alone = {audience for audience in one.used if users[audience] == 1}
                if not alone or not one.live:
                    continue
                uses = [use for use in self._by_audience(one.uid) if use.audience in alone]
                finding = unlike_siblings(one, uses, replicas, now, self._limits)
                if finding is not None:
                    unlike[one.uid] = finding
        before, self._unlike = self._unlike, unlike
        for uid in unlike.keys() - before.keys():
            self._wake_if_due(uid)

    # For reconciling

    def misuse(self, grant: WorkloadGrant, record: PodRecord | None) -> str:
        """What may end the instance (`lifecycle.Observation.misuse`): found now, or recorded and still counting."""
        worth = self._addresses_worth()
        for told in grant.status.misuse:
            if still_counts(told.kind, worth.get(told.audience, "Ignored")):
                return told.message
        for found in self._found(grant, record):
            if still_counts(found.kind, worth.get(found.audience, "Ignored")):
                return found.message
        return ""

    def recorded(
        self, grant: WorkloadGrant, status: WorkloadGrantStatus, record: PodRecord | None
    ) -> WorkloadGrantStatus:
        """The status with what is known of uses, if it is to be written anyway, or that is worth a write of its own."""
        found = self._found(grant, record)
        uid = grant.spec.pod.uid
        if not found and uid not in self._uses:
            return status
        seen = [pair for verifiers in self._uses.get(uid, {}).values() for pair in verifiers.items()]
        uses = recorded(status.uses, seen)
        kinds = {told.kind for told in status.misuse}
        new = {one.kind: one for one in found if one.kind not in kinds}
        if status == grant.status and not new and not is_due(status.uses, uses, self._every(uid)):
            return status
        misuse = (*status.misuse, *(_entry(one) for one in new.values()))
        return msgspec.structs.replace(status, uses=uses, misuse=misuse)

    def written(self, before: WorkloadGrant, after: WorkloadGrant, record: PodRecord | None) -> None:
        """Tell people of misuse that has just been recorded. The end of an identity is told by whoever ended it."""
        known = {told.kind for told in before.status.misuse}
        for told in after.status.misuse:
            if told.kind in known:
                continue
            self._metrics.misuse.labels(told.kind).inc()
            name, namespace, uid = after.metadata.name, after.metadata.namespace, after.spec.pod.uid
            _log.warning(
                "misuse found", kind=told.kind, grant=f"{namespace}/{name}",
                **pod_keys(namespace, after.spec.pod.name, uid), audience=told.audience, message=told.message,
            )  # fmt: skip
            regarding = ObjectReference.to_pod(namespace, after.spec.pod.name, uid)
            if record is None or record.gone:
                regarding = ObjectReference(API_VERSION, after.KIND, name, namespace, after.metadata.uid)
            self._events.emit(regarding, "Warning", "MisuseReported", f"{told.kind}: {told.message}", action="Report")

    # What is known

    def _take(self, verifier: str, use: TokenUses) -> None:
        known = self._uses.setdefault(use.pod_uid, {}).setdefault(use.audience, {})
        before = known.get(verifier)
        known[verifier] = use if before is None else larger(before, use)
        while len(known) > MAX_VERIFIERS:
            del known[min(known)]

    def _wake_if_due(self, uid: str) -> None:
        record = self._world.pods.get(uid)
        if any(self.recorded(grant, grant.status, record) is not grant.status for grant in self._world.grants_of(uid)):
            self._wake(uid)

    def _found(self, grant: WorkloadGrant, record: PodRecord | None) -> list[Finding]:
        uid = grant.spec.pod.uid
        ended = self._ended_at(grant, record)
        if uid not in self._uses:
            return []
        uses = self._by_audience(uid)
        found = list(findings(uses, self._instance(uses, ended, record), self._addresses_worth()))
        unlike = self._unlike.get(uid)
        return found if unlike is None else [*found, unlike]

    def _by_audience(self, uid: str) -> list[TokenUses]:
        return [together(verifiers.values()) for verifiers in self._uses.get(uid, {}).values()]

    def _instance(self, uses: Iterable[TokenUses], ended: float | None, record: PodRecord | None) -> Instance:
        worth = self._addresses_worth()
        if record is None or all(worth.get(use.audience, "Ignored") == "Ignored" for use in uses):
            return Instance(ended_at=ended)
        pod = record.pod()
        return Instance(
            ended_at=ended,
            addresses=frozenset(filter(None, map(canonical_address, record.track.addresses))),
            # A new sandbox may have brought a new address.
            addresses_since=self._following_since if record.track.restarted else 0.0,
            own_network=not pod.spec.host_network,
        )

    def _ended_at(self, grant: WorkloadGrant, record: PodRecord | None) -> float | None:
        """When the pod was over for certain; None while it may still run."""
        status = grant.status
        if status.state != "Revoked" or (record is not None and not record.gone and not record.track.ended):
            return None
        if status.reason in ("Completed", "Failed", "Deleted") and status.message != DRAINED and status.changed_at:
            return clock.parse(status.changed_at).timestamp()
        # Its identity ended before it did.
        return self._ended.setdefault(grant.spec.pod.uid, self._clock().timestamp())

    def _replica(self, grant: WorkloadGrant) -> Replica:
        uid = grant.spec.pod.uid
        record = self._world.pods.get(uid)
        told = grant.status.uses
        used = set(told.audiences) if told else set()
        firsts = [seconds_of(told.first_used_at)] if told and told.first_used_at else []
        for use in self._by_audience(uid):
            if use.first_active:
                used.add(use.audience)
                firsts.append(use.first_active)
        return Replica(
            uid=uid,
            live=record is not None and not record.gone and grant.status.state != "Revoked",
            images=tuple((image.container, image.digest) for image in grant.spec.images),
            granted=frozenset(token.audience for token in grant.spec.tokens),
            used=frozenset(used),
            first_used=min(firsts, default=0.0),
        )

    def _addresses_worth(self) -> Mapping[str, SourceAddresses]:
        """By audience. Of several objects that claim one, the oldest counts, as `trust.policies.composition` has it."""
        snapshot = self._world.rules.snapshot()
        if self._worth[0] is not snapshot:
            newest_first = sorted(
                snapshot.audiences,
                key=lambda one: (one.metadata.creation_timestamp or "", one.metadata.uid),
                reverse=True,
            )
            self._worth = (snapshot, {one.spec.audience: one.spec.source_addresses for one in newest_first})
        return self._worth[1]

    def _every(self, uid: str) -> float:
        return self._record_seconds * (1 + SPREAD * (zlib.crc32(uid.encode()) % 64) / 64)


def _controller(grant: WorkloadGrant) -> str:
    return grant.spec.controller.uid if grant.spec.controller is not None else ""


def _entry(found: Finding) -> GrantMisuse:
    at = clock.format_time(clock.from_seconds(found.at))
    return GrantMisuse(kind=found.kind, audience=found.audience, at=at, message=bounded(found.message))
