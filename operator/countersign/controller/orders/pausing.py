"""Pauses: when one begins or ends, the webhook configurations are written anew, and people are told.

Whether one is in force is decided by `trust.orders.pause` from the list and the clock; the status says whether the
door *is* open, which it is once the configurations were written. Beginning and end are told where the status turns, so
that a controller which was away meanwhile tells them, too, and tells neither twice.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from countersign.api.clock import format_time
from countersign.api.meta import condition
from countersign.api.names import API_VERSION
from countersign.api.pause import AdmissionPause, AdmissionPauseStatus
from countersign.cluster.events import Events, ObjectReference, Urgency
from countersign.controller.keeping import LONGEST_SLEEP_SECONDS, keep_on
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.statuses.statuses import Registered
from countersign.controller.statuses.writing import StatusStore, written
from countersign.controller.watches.world import World
from countersign.grants.conditions import with_condition
from countersign.trust.orders.pause import in_force, next_end, open_until

_log = structlog.get_logger(__name__)


def pause_status(
    pause: AdmissionPause, registered: Registered, now: datetime, *, another: str = ""
) -> AdmissionPauseStatus:
    """The whole status of a pause. `another`: the name of the pause that is in force, be it this one or another."""
    until, said = open_until(pause, now), condition(pause.status.conditions, "Open")
    before = said.status if said is not None else ""
    # Until this process has compared the configurations, what was said of them stands.
    unknown = not registered.written
    state: tuple[bool | None, str, str]
    if until is None and another:
        state = (False, "Ended", f"It is over. AdmissionPause {another} keeps the door open.")
    elif until is None and before != "False" and (registered.paused or unknown):
        state = (None, "Closing", "It is over: gates refuse as ever, and the webhook configurations are being written.")
    elif until is None:
        state = (False, "Ended", "It is over: pods are judged and refused as ever.")
    elif before == "True" if unknown else registered.paused:
        message = f"Until {format_time(until)} no pod is refused, and none that is created gets an identity."
        state = (True, "Paused", message)
    else:
        state = (None, "Opening", f"The webhook configurations do not say so yet. {registered.problem}".strip())
    generation = pause.metadata.generation
    conditions = with_condition(pause.status.conditions, "Open", *state, generation=generation, now=now)
    return AdmissionPauseStatus(conditions=conditions, observed_generation=generation)


class PauseKeeper:
    """Follows the pauses while this process leads. `turned` is called when the door is to be opened or shut."""

    def __init__(
        self,
        world: World,
        store: StatusStore,
        events: Events,
        metrics: ControllerMetrics,
        *,
        registered: Callable[[], Registered],
        clock: Callable[[], datetime],
        turned: Callable[[], None],
    ) -> None:
        self._world = world
        self._store = store
        self._events = events
        self._metrics = metrics
        self._registered = registered
        self._clock = clock
        self._turned = turned
        self._wake = asyncio.Event()
        self._told: dict[str, bool] = {}
        """What was told last of each pause, by UID: the watch shows a status a moment after it was written."""

    def wake(self) -> None:
        """A pause, or what is registered, may be another now."""
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        await keep_on(self.keep, self._until_next, self._wake, "a pause")

    async def keep(self) -> None:
        """Bring metrics, webhooks and every status up to now. Raises ClusterError."""
        now, registered = self._clock(), self._registered()
        pauses = list(self._world.rules.pauses.values())
        current = in_force(pauses, now)
        self._metrics.paused.set(current is not None)
        self._metrics.pause_end.set(current.ends.timestamp() if current else 0)
        if registered.written and registered.paused is not (current is not None):
            self._turned()
        for pause in pauses:
            status = pause_status(pause, registered, now, another=current.name if current else "")
            if await written(self._store, pause, status):
                self._tell(pause, status)
        self._forget({pause.metadata.uid for pause in pauses})

    def _tell(self, pause: AdmissionPause, status: AdmissionPauseStatus) -> None:
        uid, open_now = pause.metadata.uid, _is_open(status)
        before = self._told.get(uid, _is_open(pause.status))
        self._told[uid] = bool(open_now)
        if open_now is before:
            return
        if open_now:
            _log.warning("admission paused", **_facts(pause))
            note = f"Admission is paused until {pause.spec.expires_at} at the latest, by {pause.spec.requested_by}: "
            self._emit(pause, "Warning", "AdmissionPaused", note + pause.spec.reason, "Pause")
        else:
            _log.warning("admission no longer paused", **_facts(pause))
            note = "The pause is over. What was created meanwhile has no identity: countersign adopt --all-namespaces"
            self._emit(pause, "Normal", "AdmissionResumed", note, "Resume")

    def _emit(self, pause: AdmissionPause, urgency: Urgency, reason: str, note: str, action: str) -> None:
        meta = pause.metadata
        regarding = ObjectReference(API_VERSION, pause.KIND, meta.name, uid=meta.uid)
        self._events.emit(regarding, urgency, reason, note, action=action)

    def _forget(self, known: set[str]) -> None:
        for uid in self._told.keys() - known:
            if self._told.pop(uid):
                _log.warning("admission no longer paused: the pause was deleted", uid=uid)

    def _until_next(self) -> float:
        now = self._clock()
        end = next_end(self._world.rules.pauses.values(), now)
        return LONGEST_SLEEP_SECONDS if end is None else (end - now).total_seconds()


def _is_open(status: AdmissionPauseStatus) -> bool | None:
    """What the status says; None: it was not judged yet."""
    found = condition(status.conditions, "Open")
    return None if found is None else found.status != "False"


def _facts(pause: AdmissionPause) -> dict[str, str]:
    spec = pause.spec
    return {
        "pause": pause.metadata.name,
        "by": spec.requested_by,
        "reason": spec.reason,
        "since": pause.metadata.creation_timestamp or "",
        "until": spec.expires_at,
    }
