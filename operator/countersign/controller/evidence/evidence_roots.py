"""EvidenceRoots: content that is fetched, kept when a later fetch fails, and told of in the status.

What is fetched stands in the status (`api.evidence_root`), so that gates and controllers read one object, and go on
with it when the mirror, the ConfigMap or every controller is away.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec
import structlog

from countersign.api.clock import format_time, parse
from countersign.api.evidence_root import EvidenceRoot, EvidenceRootSpec, EvidenceRootStatus, source_of
from countersign.api.meta import condition
from countersign.api.names import API_VERSION
from countersign.cluster.events import Events, ObjectReference, Urgency
from countersign.controller.evidence.fetching import Attempt
from countersign.controller.keeping import LONGEST_SLEEP_SECONDS, keep_on
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.statuses.writing import StatusStore, written
from countersign.controller.watches.world import World
from countersign.grants.conditions import with_condition, without_condition
from countersign.signatures.roots.known_roots import Known, KnownRoots
from countersign.signatures.roots.summary import RootSummary, summarise

CONFIG_MAP_SECONDS: Final = 30.0
"""How often a ConfigMap is looked at."""
FIRST_RETRY_SECONDS: Final = 60.0
LONGEST_RETRY_SECONDS: Final = 3600.0
"""After a mirror failed: doubled each time, and never longer than the root's own refreshSeconds."""

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """Where content is fetched (`controller.evidence.fetching.Fetcher`)."""

    async def fetch(self, spec: EvidenceRootSpec, held: EvidenceRootStatus) -> Attempt:
        """One attempt. Never raises for what the source does."""


def root_status(
    resource: EvidenceRoot, held: EvidenceRootStatus, known: Known, summary: RootSummary, attempt: Attempt | None
) -> EvidenceRootStatus:
    """`held` with what is known of the content in use and, if there was an attempt, what came of it; no conditions."""
    expiry = summary.earliest_expiry
    return msgspec.structs.replace(
        held,
        observed_generation=resource.metadata.generation,
        hash=known.facts.hash,
        authorities=summary.authorities,
        logs=summary.logs,
        names=summary.names,
        earliest_expiry=format_time(expiry) if expiry is not None else None,
        tuf=attempt.tuf if attempt is not None else held.tuf,
    )


class RootKeeper:
    """Follows the EvidenceRoots while this process leads."""

    def __init__(
        self,
        world: World,
        store: StatusStore,
        source: Source,
        events: Events,
        metrics: ControllerMetrics,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._world = world
        self._store = store
        self._source = source
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._wake = asyncio.Event()
        self._kept: dict[str, EvidenceRootStatus] = {}
        """By UID, what the status is to be: the watch shows it a moment later, and nobody else is to write it."""
        self._due: dict[str, datetime] = {}
        self._failures: dict[str, int] = {}
        self._generations: dict[str, int] = {}
        self._confirmed: dict[str, datetime] = {}
        """By name, when the source last confirmed the content in use."""

    def wake(self) -> None:
        """An EvidenceRoot may be another now."""
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        await keep_on(self.keep, self._until_next, self._wake, "an EvidenceRoot")

    async def keep(self) -> None:
        """Fetch what is due, and bring every status up to now. Raises ClusterError."""
        resources = list(self._world.rules.evidence_roots.values())
        self._forget(resources)
        # Each for itself: one mirror that does not answer delays no other.
        kept = await asyncio.gather(*(self._keep(resource) for resource in resources), return_exceptions=True)
        for failed in kept:
            if isinstance(failed, BaseException):
                raise failed

    async def _keep(self, resource: EvidenceRoot) -> None:
        meta = resource.metadata
        before = self._kept.get(meta.uid, resource.status)
        fetched = not resource.spec.sigstore.trusted_root
        source = source_of(resource.spec) if fetched else ""
        held = before
        if before.source != source:
            held = _without_content(before, source)
            self._let_go(meta.uid, meta.name)
        attempt = None
        if fetched and self._is_due(resource, held):
            attempt = await self._source.fetch(resource.spec, held)
            held = self._after(resource, held, attempt)
        now = self._clock()
        proposed = msgspec.structs.replace(resource, status=held)
        known = KnownRoots([proposed]).known(meta.name)
        assert known is not None  # noqa: S101 - it is in there
        status = root_status(resource, held, known, summarise(known.content, now), attempt)
        status = _with_conditions(status, meta.generation, known, attempt, fetched=fetched, now=now)
        if not fetched:
            self._let_go(meta.uid, meta.name)
        # Before the write, which may fail: what was fetched is not to be fetched again for that, nor told twice.
        self._kept[meta.uid] = status
        self._tell(resource, before, status, attempt)
        await written(self._store, resource, status)

    def _is_due(self, resource: EvidenceRoot, held: EvidenceRootStatus) -> bool:
        uid, generation = resource.metadata.uid, resource.metadata.generation
        tuf = resource.spec.sigstore.tuf
        if self._generations.get(uid) != generation:
            first = uid not in self._generations
            self._generations[uid] = generation
            self._failures.pop(uid, None)
            self._due[uid] = self._clock()
            last = condition(held.conditions, "Refreshed")
            fresh = first and last is not None and last.status == "True" and held.observed_generation == generation
            if fresh and tuf is not None and held.last_attempt_at is not None and held.trusted_root:
                # Another controller asked not long ago: a new leader is no reason to ask again.
                self._due[uid] = parse(held.last_attempt_at) + timedelta(seconds=tuf.refresh_seconds)
            if held.fetched_at is not None:
                self._confirm(resource.metadata.name, parse(held.fetched_at))
        return self._due[uid] <= self._clock()

    def _after(self, resource: EvidenceRoot, held: EvidenceRootStatus, attempt: Attempt) -> EvidenceRootStatus:
        """What is held after the attempt, and when the next is due."""
        uid, now, tuf = resource.metadata.uid, self._clock(), resource.spec.sigstore.tuf
        every = float(tuf.refresh_seconds) if tuf is not None else CONFIG_MAP_SECONDS
        if attempt.content:
            self._failures.pop(uid, None)
            self._confirm(resource.metadata.name, now)
        else:
            failures = self._failures[uid] = self._failures.get(uid, 0) + 1
            self._metrics.root_failures.labels(resource.metadata.name).inc()
            if tuf is not None:
                retry = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10), LONGEST_RETRY_SECONDS)
                every = min(every, retry)
        self._due[uid] = now + timedelta(seconds=every)
        last = condition(held.conditions, "Refreshed")
        turned = last is None or (last.status == "True") is not bool(attempt.content)
        if tuf is None and not turned and attempt.content in ("", held.trusted_root):
            return held  # looked at twice a minute: what is as it was is not written each time
        at = format_time(now)
        if not attempt.content:
            return msgspec.structs.replace(held, last_attempt_at=at)
        return msgspec.structs.replace(held, last_attempt_at=at, fetched_at=at, trusted_root=attempt.content)

    def _confirm(self, name: str, at: datetime) -> None:
        self._confirmed[name] = at
        self._metrics.root_confirmed(name, at)

    def _tell(
        self, resource: EvidenceRoot, before: EvidenceRootStatus, after: EvidenceRootStatus, attempt: Attempt | None
    ) -> None:
        name = resource.metadata.name
        if attempt is not None and not attempt.content:
            _log.warning("evidence root not refreshed", root=name, reason=attempt.reason, error=attempt.problem)
            last = condition(before.conditions, "Refreshed")
            if resource.spec.sigstore.tuf is not None or last is None or last.status == "True":
                kept = "The last good content stays in use." if after.hash else "Nothing rests on it until then."
                self._emit(resource, "Warning", "RefreshFailed", f"{attempt.problem}. {kept}", "Refresh")
        if before.hash and after.hash != before.hash:
            _log.warning("evidence root changed", root=name, before=before.hash, after=after.hash or None)
            note = f"The content is another: {before.hash} before, {after.hash or 'none'} now. "
            note += "What rests on certificates or logs that left it is suspended."
            self._emit(resource, "Normal", "ContentChanged", note, "Refresh")

    def _emit(self, resource: EvidenceRoot, urgency: Urgency, reason: str, note: str, action: str) -> None:
        meta = resource.metadata
        regarding = ObjectReference(API_VERSION, resource.KIND, meta.name, uid=meta.uid)
        self._events.emit(regarding, urgency, reason, note, action=action)

    def _let_go(self, uid: str, name: str) -> None:
        """Nothing is to be fetched for it any more, or all of it anew."""
        for known in (self._due, self._failures, self._generations):
            known.pop(uid, None)
        self._confirmed.pop(name, None)
        self._metrics.no_root_age(name)

    def _forget(self, resources: list[EvidenceRoot]) -> None:
        uids = {resource.metadata.uid for resource in resources}
        for known in (self._kept, self._due, self._failures, self._generations):
            for uid in known.keys() - uids:
                known.pop(uid)
        for name in self._confirmed.keys() - {resource.metadata.name for resource in resources}:
            del self._confirmed[name]
            self._metrics.no_root_age(name)

    def _until_next(self) -> float:
        soonest = min(self._due.values(), default=None)
        return LONGEST_SLEEP_SECONDS if soonest is None else (soonest - self._clock()).total_seconds()


def _without_content(before: EvidenceRootStatus, source: str) -> EvidenceRootStatus:
    """A status in which nothing is left of what was read under another source."""
    kept = without_condition(before.conditions, "Refreshed")
    return EvidenceRootStatus(conditions=kept, observed_generation=before.observed_generation, source=source)


def _with_conditions(
    status: EvidenceRootStatus,
    generation: int,
    known: Known,
    attempt: Attempt | None,
    *,
    fetched: bool,
    now: datetime,
) -> EvidenceRootStatus:
    problem = known.facts.problem
    conditions = status.conditions

    def put(kind: str, holds: bool, reason: str, message: str) -> None:
        nonlocal conditions
        conditions = with_condition(conditions, kind, holds, reason, message, generation=generation, now=now)

    if not fetched:
        put("Accepted", not problem, "BadContent" if problem else "Accepted", problem or "It can be used.")
    elif attempt is not None:
        bad = not attempt.accepted
        put("Accepted", not bad, attempt.reason if bad else "Accepted", attempt.problem if bad else "It can be used.")
        if attempt.content:
            put("Refreshed", True, "Refreshed", "The source confirmed the content.")
        else:
            put("Refreshed", False, attempt.reason, attempt.problem)
    if problem:
        put("Ready", False, "BadContent" if not fetched or status.trusted_root else "NotFetched", problem)
    elif fetched and not status.trusted_root:
        put("Ready", True, "BuiltIn", "The content that this release brings is in use until the mirror was asked.")
    else:
        put("Ready", True, "Ready", "It is in use.")
    return msgspec.structs.replace(status, conditions=conditions)
