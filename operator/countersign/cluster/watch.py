"""A reflector: list, then watch, for ever, keeping a WatchCache equal to what the API server has.

Level-triggered: after each list the cache is compared with it, so whatever happened in a gap is caught up, deletions
included. Nothing that the server does or fails to do ends `run`. See "Efficient detection of changes" in
kubernetes.io/docs/reference/using-api/api-concepts, and KEP-956 for bookmarks.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Generic, Never, TypeVar

import msgspec
import structlog

from countersign.cluster.cache import Key, WatchCache
from countersign.cluster.client import PAGE_SIZE, ApiClient, selectors
from countersign.cluster.errors import (
    ClusterError,
    GoneError,
    MalformedAnswerError,
    Status,
    UnreachableError,
    error_from_status,
)
from countersign.cluster.lines import LineSplitter
from countersign.cluster.resource import Resource

O = TypeVar("O")  # noqa: E741 - the object as the server has it
T = TypeVar("T")

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""One watch event: an object of at most 1.5 MiB in etcd (etcd's request limit), larger when its bytes are escaped."""
SERVER_SECONDS: Final = 290.0
"""How long the server keeps one watch open: under the 5 minutes after which many load balancers cut a connection."""
SILENCE_SECONDS: Final = 75.0
"""The server sends a bookmark about each minute once it has seen a change; a longer silence may be a dead connection,
and a new watch from the same version costs one request."""
FIRST_PAUSE_SECONDS: Final = 0.25
MAX_PAUSE_SECONDS: Final = 4.0
SHORT_WATCH_SECONDS: Final = 1.0
RELIST_AFTER_FAILURES: Final = 4
"""Watches failing one after the other for a reason other than 410: the version may be one that the server will never
reach again (etcd restored from a backup)."""

_log = structlog.get_logger(__name__)


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Identity(msgspec.Struct, frozen=True):
    metadata: _Meta


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_event: Final = msgspec.json.Decoder(_Event)
_identity: Final = msgspec.json.Decoder(_Identity)


class Reflector(Generic[O, T]):
    """Keeps `cache` equal to the selected objects of a resource, each reduced by `project` to what is needed.

    `model` is the msgspec type that is read (undeclared fields are skipped while parsing); `project` must be pure, and
    what it returns is all that stays in memory. An object that does not parse, or that `project` raises on, is dropped
    from the cache and noted in `cache.malformed`. With `name`, only that object is asked for (field selector
    `metadata.name`, which RBAC `resourceNames` authorises).
    """

    def __init__(
        self,
        client: ApiClient,
        resource: Resource,
        model: type[O],
        project: Callable[[O], T],
        *,
        namespace: str | None = None,
        name: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
        silence_seconds: float = SILENCE_SECONDS,
        relist_when_silent: bool = False,
        server_seconds: float = SERVER_SECONDS,
        pause: Callable[[int], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pause` gives the seconds to wait after so many failures in a row.

        `relist_when_silent`: for an object that is known to change all the time. Its silence may mean that etcd was
        restored and has not reached the version that is watched from; only a list tells.
        """
        self.cache: WatchCache[T] = WatchCache(clock)
        self.lists = self.watches = self.events = self.failures = 0
        """Since the start: completed lists, opened watches, events taken, errors met."""
        self._client = client
        self._resource = resource
        self._namespace = namespace
        by_name = f"metadata.name={name}" if name is not None else None
        self._fields = ",".join(part for part in (by_name, field_selector) if part)
        self._labels = label_selector or ""
        self._decode = msgspec.json.Decoder(model).decode
        self._project = project
        self._page_size = page_size
        self._silence = silence_seconds
        self._relist_when_silent = relist_when_silent
        self._server_seconds = server_seconds
        self._pause = pause or backoff
        self._version: str | None = None
        self._failed_in_a_row = 0

    async def run(self) -> Never:
        """List and watch until cancelled."""
        while True:
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._watch(self._version)
            except UnreachableError as error:
                self._note(error)  # the version is still good: go on from it when the server is back
            except ClusterError as error:
                self._note(error)
                if isinstance(error, GoneError) or self._failed_in_a_row % RELIST_AFTER_FAILURES == 0:
                    self._version = None
            except Exception as error:
                # A defect here must not leave a service with a cache that silently grows old.
                _log.exception("watch failed", resource=self._resource.plural)
                self._note(error)
                self._version = None
            if self._failed_in_a_row:
                await asyncio.sleep(self._pause(self._failed_in_a_row))

    async def _list(self) -> str:
        seen: set[Key] = set()
        version = ""
        async for page in self._client.pages(
            self._resource,
            msgspec.Raw,
            namespace=self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
            page_size=self._page_size,
        ):
            self.cache.touch()
            version = page.metadata.resource_version
            for raw in page.items or ():
                identity = _identify(raw)
                seen.add(_key(identity))
                self._take(identity, raw)
        if not version:
            raise MalformedAnswerError(f"the list of {self._resource.plural} has no resourceVersion")
        self.cache.retain(seen)
        self.cache.synced.set()
        self.lists += 1
        return version

    async def _watch(self, version: str) -> None:
        """One watch, from `version` until it ends in order, falls silent or fails."""
        loop = asyncio.get_running_loop()
        params = selectors(self._labels, self._fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(round(self._server_seconds * random.uniform(0.8, 1.0))),  # noqa: S311
        }
        started = loop.time()
        lines = LineSplitter(MAX_LINE_BYTES)
        async with self._client.stream(self._resource, params, namespace=self._namespace) as chunks:
            self.watches += 1
            self.cache.touch()
            try:
                async with asyncio.timeout(self._silence) as silence:
                    async for chunk in chunks:
                        silence.reschedule(loop.time() + self._silence)
                        self.cache.touch()
                        for line in lines.feed(chunk):
                            self._on_line(line)
            except TimeoutError:
                _log.debug("watch silent, opening another", resource=self._resource.plural, seconds=self._silence)
                if self._relist_when_silent:
                    self._version = None
        # A server that ends every watch at once must not be asked in a tight loop.
        self._failed_in_a_row = 0 if loop.time() - started >= SHORT_WATCH_SECONDS else self._failed_in_a_row + 1

    def _on_line(self, line: bytes) -> None:
        try:
            event = _event.decode(line)
        except msgspec.MsgspecError as error:
            raise MalformedAnswerError(f"a watch event of {self._resource.plural} is not JSON: {error}") from error
        if event.type == "ERROR":
            said = _status(event.object)
            raise error_from_status(said.code, said)
        identity = _identify(event.object)
        self._failed_in_a_row = 0
        match event.type:
            case "ADDED" | "MODIFIED":
                self._take(identity, event.object)
            case "DELETED":
                self.cache.remove(_key(identity), self._read(event.object))
            case "BOOKMARK":
                pass
            case _:
                raise MalformedAnswerError(f"unknown watch event {event.type[:40]!r}")
        self.events += 1
        if identity.resource_version:
            self._version = identity.resource_version

    def _take(self, identity: _Meta, raw: msgspec.Raw) -> None:
        key = _key(identity)
        try:
            value = self._project(self._decode(raw))
        except Exception as error:
            _log.error("object cannot be read", resource=self._resource.plural, name=key.name, namespace=key.namespace,
                       error=str(error))  # fmt: skip
            self.cache.reject(key, str(error))
        else:
            self.cache.put(key, identity.uid, identity.resource_version, value)

    def _read(self, raw: msgspec.Raw) -> T | None:
        try:
            return self._project(self._decode(raw))
        except Exception:
            return None  # it is gone: the last readable state will do

    def _note(self, error: Exception) -> None:
        self.failures += 1
        self._failed_in_a_row += 1
        _log.info("watch interrupted", resource=self._resource.plural, error=str(error), in_a_row=self._failed_in_a_row)


def _identify(raw: msgspec.Raw) -> _Meta:
    try:
        return _identity.decode(raw).metadata
    except msgspec.MsgspecError as error:
        raise MalformedAnswerError(f"an object without readable metadata: {error}") from error


def _key(identity: _Meta) -> Key:
    return Key(identity.namespace, identity.name)


def _status(raw: msgspec.Raw) -> Status:
    try:
        return msgspec.json.decode(raw, type=Status)
    except msgspec.MsgspecError as error:
        raise MalformedAnswerError(f"a watch ERROR event without a status: {error}") from error


def backoff(failures: int) -> float:
    """Seconds to wait after `failures` in a row: doubled each time up to MAX_PAUSE_SECONDS, jittered downwards."""
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnects, guards nothing
    return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 8)) * jitter
