"""Events on the objects that a decision concerns (events.k8s.io/v1; `kubectl describe` and `kubectl events` show them).

Fire and forget: `emit` never waits and never raises. Repeats become a series on one Event (KEP-383), and what is more
than the queue or the rate allows is dropped and counted: an Event informs, the record is the grant and the log.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, NamedTuple, Protocol, Self
from uuid import uuid4

import msgspec
import structlog

from countersign.api.clock import format_micro
from countersign.cluster.client import ApiClient, Object
from countersign.cluster.errors import AlreadyExistsError, ClusterError, NotFoundError
from countersign.cluster.resource import EVENTS

MAX_QUEUE: Final = 1000
MAX_REMEMBERED: Final = 4096
SERIES_SECONDS: Final = 30 * 60.0
"""How long a repeat counts as the same series. Well below the hour for which the API server keeps an Event."""
UPDATE_SECONDS: Final = 60.0
"""A series is written at most this often."""
EVENTS_PER_SECOND: Final = 20.0
BURST: Final = 100.0
FLUSH_SECONDS: Final = 2.0
INSIST_EVERY: Final = 0.5
MAX_NOTE_BYTES: Final = 1024
MAX_REASON: Final = 128
MAX_INSTANCE: Final = 128
"""These three: what validation allows (pkg/apis/core/validation/events.go)."""

_log = structlog.get_logger(__name__)


class ObjectReference(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """core/v1 ObjectReference: what an Event is about. Without `uid`, kubectl shows it to namesakes as well."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""

    @classmethod
    def to_pod(cls, namespace: str, name: str, uid: str) -> Self:
        """To one instance."""
        return cls("v1", "Pod", name, namespace, uid)


class _Series:
    __slots__ = ("count", "first_at", "name", "written_at")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.count = 1
        self.first_at = self.written_at = now


Urgency = Literal["Normal", "Warning"]


class _Occurrence(NamedTuple):
    """What makes two Events the same one, seen twice."""

    regarding: ObjectReference
    urgency: Urgency
    reason: str
    note: str
    action: str


class Events(Protocol):
    """Where people are told (`EventRecorder`)."""

    def emit(self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str) -> None:
        """Fire and forget."""


class EventRecorder:
    """An async context manager; `emit` may be called from its event loop at any time.

    `controller` is a qualified name such as `countersign.dev/controller`, `instance` the pod's name.
    """

    def __init__(
        self, client: ApiClient, controller: str, instance: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.written = self.dropped = 0
        """Since the start: requests that the API server accepted, and Events that it never got."""
        self._client = client
        self._controller = controller
        self._instance = instance[:MAX_INSTANCE]
        self._clock = clock
        self._queue: asyncio.Queue[tuple[str, str, Object, bool]] = asyncio.Queue(MAX_QUEUE)
        self._series: OrderedDict[_Occurrence, _Series] = OrderedDict()
        self._allowance, self._counted_at = BURST, clock()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._queue.join()
        except TimeoutError:
            self.dropped += self._queue.qsize()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])

    def emit(self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str) -> None:
        """Record that `action` (what we did) on `regarding` ended in `reason` (CamelCase), as `note` explains."""
        now = self._clock()
        occurrence = _Occurrence(regarding, urgency, reason, note, action)
        series = self._series.get(occurrence)
        if series is not None and now - series.first_at < SERIES_SECONDS:
            series.count += 1
            if now - series.written_at >= UPDATE_SECONDS and self._allowed(now):
                series.written_at = now
                body = {"series": {"count": series.count, "lastObservedTime": _wall()}}
                self._put(_namespace(regarding), series.name, body, repeated=True)
            return
        if not self._allowed(now):
            return
        series = _Series(_name(regarding), now)
        if self._put(_namespace(regarding), series.name, self._event(series.name, occurrence), repeated=False):
            self._series[occurrence] = series
            self._series.move_to_end(occurrence)
            if len(self._series) > MAX_REMEMBERED:
                self._series.popitem(last=False)

    async def insist(
        self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str, within: float
    ) -> bool:
        """What `emit` records, tried again until it is written or `within` seconds have passed; whether it was.

        For an API server that has only just come back: it refuses (403, 429) until it has read the roles again.
        """
        namespace, name = _namespace(regarding), _name(regarding)
        body = self._event(name, _Occurrence(regarding, urgency, reason, note, action))
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    if await self._send(namespace, name, body, repeated=False):
                        return True
                    await asyncio.sleep(INSIST_EVERY)
        self.dropped += 1
        return False

    def _event(self, name: str, seen: _Occurrence) -> Object:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": "Event",
            "metadata": {"name": name, "namespace": _namespace(seen.regarding)},
            "eventTime": _wall(),
            "regarding": seen.regarding,
            "type": seen.urgency,
            "reason": seen.reason[:MAX_REASON],
            "note": seen.note.encode()[:MAX_NOTE_BYTES].decode("utf-8", "ignore"),
            "action": seen.action[:MAX_REASON],
            "reportingController": self._controller,
            "reportingInstance": self._instance,
        }

    def _allowed(self, now: float) -> bool:
        """Token bucket over everything that is sent."""
        self._allowance = min(BURST, self._allowance + (now - self._counted_at) * EVENTS_PER_SECOND)
        self._counted_at = now
        if self._allowance < 1:
            self.dropped += 1
            return False
        self._allowance -= 1
        return True

    def _put(self, namespace: str, name: str, body: Object, *, repeated: bool) -> bool:
        try:
            self._queue.put_nowait((namespace, name, body, repeated))
        except asyncio.QueueFull:
            self.dropped += 1
            return False
        return True

    async def _write(self) -> None:
        while True:
            namespace, name, body, repeated = await self._queue.get()
            try:
                if not await self._send(namespace, name, body, repeated=repeated):
                    self.dropped += 1
            finally:
                self._queue.task_done()

    async def _send(self, namespace: str, name: str, body: Object, *, repeated: bool) -> bool:
        try:
            if repeated:
                await self._client.merge_patch(EVENTS, name, body, Object, namespace=namespace)
            else:
                with suppress(AlreadyExistsError):  # the name is ours alone: the answer to an attempt was lost
                    await self._client.create(EVENTS, body, namespace=namespace)
        except ClusterError as error:
            if not isinstance(error, NotFoundError):  # its namespace is going away, or the Event has expired
                _log.warning("event not written", name=name, namespace=namespace, error=str(error))
            return False
        self.written += 1
        return True


def _name(regarding: ObjectReference) -> str:
    return f"{regarding.name[:200]}.{uuid4().hex[:16]}"


def _namespace(regarding: ObjectReference) -> str:
    # Events on cluster-scoped objects stand in `default` (events.k8s.io validation).
    return regarding.namespace or "default"


def _wall() -> str:
    return format_micro(datetime.now(UTC))
