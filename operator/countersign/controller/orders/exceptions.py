"""TrustExceptions: their status, and people told in time that one runs out.

Whether one is in force is decided by `trust.orders.exceptions` from the object and the clock, wherever somebody asks;
what stands here is for people. Beginning, warning and end are told where the status turns, so that a controller which
was away meanwhile tells them, too, and tells none twice.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

import structlog

from countersign.api.clock import format_time
from countersign.api.exception import ExceptionPolicyRef, TrustException, TrustExceptionStatus
from countersign.api.meta import condition
from countersign.api.names import API_VERSION
from countersign.api.policy import TrustPolicy
from countersign.cluster.events import Events, ObjectReference, Urgency
from countersign.controller.keeping import LONGEST_SLEEP_SECONDS, keep_on
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.statuses.statuses import PAUSE_SECONDS
from countersign.controller.statuses.writing import StatusStore, written
from countersign.controller.watches.world import World
from countersign.grants.conditions import with_condition
from countersign.trust.orders.exceptions import ends_at, in_force_until, warns_at

MAX_SERIES: Final = 64
"""Exceptions with a time series of their own: those that end first."""
CONDITIONS: Final = ("Active", "Expiring", "Expired", "ResolvedRefs")

PolicyName = tuple[str, str, str]
"""Kind, namespace (empty for a ClusterTrustPolicy) and name."""

_log = structlog.get_logger(__name__)


def exception_status(
    exception: TrustException, policies: Collection[PolicyName], pods: int, now: datetime
) -> TrustExceptionStatus:
    """The whole status. `policies`: those that exist. `pods`: running ones with a finding that it waives."""
    until, warn = in_force_until(exception, now), warns_at(exception)
    missing = [_written(ref) for ref in exception.spec.policy_refs if _name(ref) not in policies]
    expiring = until is not None and warn is not None and warn <= now
    told: tuple[tuple[bool, str, str], ...] = (
        (True, "InForce", f"Until {format_time(until)} it waives what it names.")
        if until
        else (False, *_why_not(exception)),
        (True, "RunsOut", f"It ends at {format_time(until)}: mend what it waives, or create another.")
        if expiring and until
        else (False, "NotYet" if until else "Over", "Nothing to do."),
        (False, "InForce", "It is in force.") if until else (True, *_why_not(exception)),
        (False, "PolicyMissing", f"Not there: {', '.join(missing[:4])}. A policy made under that name is meant, too.")
        if missing
        else (True, "Resolved", "Every policy that it names exists."),
    )
    conditions, generation = exception.status.conditions, exception.metadata.generation
    for kind, (holds, reason, message) in zip(CONDITIONS, told, strict=True):
        conditions = with_condition(conditions, kind, holds, reason, message, generation=generation, now=now)
    warned = exception.status.warned_at or (format_time(now) if expiring else None)
    return TrustExceptionStatus(conditions=conditions, observed_generation=generation, pods=pods, warned_at=warned)


def _why_not(exception: TrustException) -> tuple[str, str]:
    end = ends_at(exception)
    if end is None:
        return "NeverInForce", "Its expiresAt is no time after its creation."
    if exception.metadata.deletion_timestamp is not None:
        return "BeingDeleted", "It is being deleted: nothing is waived by it any more."
    return "Over", f"It ended at {format_time(end)}: nothing is waived by it any more."


def _name(ref: ExceptionPolicyRef) -> PolicyName:
    return ref.kind, ref.namespace, ref.name


def _written(ref: ExceptionPolicyRef) -> str:
    return f"{ref.kind} {ref.namespace}/{ref.name}" if ref.namespace else f"{ref.kind} {ref.name}"


class ExceptionKeeper:
    """Follows the exceptions while this process leads."""

    def __init__(
        self,
        world: World,
        store: StatusStore,
        events: Events,
        metrics: ControllerMetrics,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._world = world
        self._store = store
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._wake = asyncio.Event()
        self._told: dict[tuple[str, str], str] = {}
        """What was told last, by UID and condition: the watch shows a status a moment after it was written."""
        self._shown: set[str] = set()

    def wake(self) -> None:
        """An exception, a policy or a pod may be another now."""
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        await keep_on(self.keep, self._until_next, self._wake, "an exception", pause=PAUSE_SECONDS)

    async def keep(self) -> None:
        """Bring metrics and every status up to now. Raises ClusterError."""
        now, world = self._clock(), self._world
        exceptions = list(world.rules.exceptions.values())
        self._measure(exceptions, now)
        policies = {(type(one).KIND, _home(one), one.metadata.name) for one in world.rules.policies.values()}
        pods = self._resting() if exceptions else Counter()
        for exception in exceptions:
            status = exception_status(exception, policies, pods[exception.metadata.uid], now)
            if await written(self._store, exception, status):
                self._tell(exception, status)
        self._forget({one.metadata.uid for one in exceptions})

    def _resting(self) -> Counter[str]:
        """By UID: how many running pods have a finding that it waives."""
        counted: Counter[str] = Counter()
        for record in self._world.live():
            if record.judged and record.qualification is not None and not record.track.ended:
                counted.update(one.uid for one in record.qualification.exceptions)
        return counted

    def _measure(self, exceptions: list[TrustException], now: datetime) -> None:
        ends = sorted((end, one.metadata.name) for one in exceptions if (end := in_force_until(one, now)) is not None)
        warned = [one for one in exceptions if (at := warns_at(one)) is not None and at <= now]
        expiring = sum(in_force_until(one, now) is not None for one in warned)
        self._metrics.exceptions.labels("Active").set(len(ends))
        self._metrics.exceptions.labels("Expiring").set(expiring)
        self._metrics.exceptions.labels("Expired").set(len(exceptions) - len(ends))
        shown = {name: end for end, name in ends[:MAX_SERIES]}
        for name in self._shown - shown.keys():
            self._metrics.exception_end.remove(name)
        for name, end in shown.items():
            self._metrics.exception_end.labels(name).set(end.timestamp())
        self._shown = set(shown)

    def _tell(self, exception: TrustException, status: TrustExceptionStatus) -> None:
        spec = exception.spec
        active, expiring = self._turned(exception, status, "Active"), self._turned(exception, status, "Expiring")
        who = f"{spec.owner}, asked for by {spec.requested_by or 'somebody unknown'}"
        if active == "True":
            note = f"In force until {spec.expires_at} at the latest. It is of {who}: {spec.reason}"
            self._emit(exception, "Normal", "TrustExceptionInForce", note, "Waive")
        if expiring == "True":
            note = f"It ends at {spec.expires_at}, and {status.pods} running pods have findings that it waives ({who})."
            self._emit(exception, "Warning", "TrustExceptionExpiring", note, "Warn")
        if active == "False":
            note = f"It is over. {status.pods} running pods had findings that it waived when last counted ({who})."
            self._emit(exception, "Warning" if status.pods else "Normal", "TrustExceptionEnded", note, "End")

    def _turned(self, exception: TrustException, status: TrustExceptionStatus, kind: str) -> str:
        """The condition's status if it is another than was told last; empty otherwise, and for what never held."""
        before, after = condition(exception.status.conditions, kind), condition(status.conditions, kind)
        key = (exception.metadata.uid, kind)
        known = self._told.get(key, before.status if before is not None else "False")
        now = after.status if after is not None else "False"
        self._told[key] = now
        return now if now != known else ""

    def _emit(self, exception: TrustException, urgency: Urgency, reason: str, note: str, action: str) -> None:
        meta, spec = exception.metadata, exception.spec
        level = _log.warning if urgency == "Warning" else _log.info
        level(reason, exception=meta.name, owner=spec.owner, by=spec.requested_by, until=spec.expires_at)
        regarding = ObjectReference(API_VERSION, exception.KIND, meta.name, uid=meta.uid)
        self._events.emit(regarding, urgency, reason, note, action=action)

    def _forget(self, known: set[str]) -> None:
        for uid, kind in [key for key in self._told if key[0] not in known]:
            del self._told[uid, kind]

    def _until_next(self) -> float:
        now = self._clock()
        moments = [
            moment
            for one in self._world.rules.exceptions.values()
            for moment in (warns_at(one), in_force_until(one, now))
            if moment is not None and moment > now
        ]
        return (min(moments) - now).total_seconds() if moments else LONGEST_SLEEP_SECONDS


def _home(policy: object) -> str:
    return policy.metadata.namespace if isinstance(policy, TrustPolicy) else ""
