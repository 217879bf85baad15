"""What a watch knows: objects by name and by UID, indexes over them, and who is told of each change."""

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from sys import intern
from typing import Generic, NamedTuple, TypeVar

import msgspec
import structlog

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Key(NamedTuple):
    """Namespace (empty for cluster-scoped objects) and name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Added(Generic[T]):
    """An object that was not there before."""

    key: Key
    uid: str
    new: T


@dataclass(frozen=True, slots=True)
class Modified(Generic[T]):
    """The same object (the same UID), changed."""

    key: Key
    uid: str
    old: T
    new: T


@dataclass(frozen=True, slots=True)
class Deleted(Generic[T]):
    """An object that is gone. `old` is its last state known: the final one, unless it vanished unobserved."""

    key: Key
    uid: str
    old: T


Change = Added[T] | Modified[T] | Deleted[T]
Handler = Callable[[Change[T]], None]


class _Entry(msgspec.Struct, Generic[T], frozen=True, gc=False):
    key: Key
    uid: str
    version: str
    value: T


class Index(Generic[T]):
    """Objects by a property of theirs. Made by `WatchCache.index`."""

    def __init__(self, keys_of: Callable[[T], Iterable[Hashable]]) -> None:
        self._keys_of = keys_of
        self._found: dict[Hashable, dict[str, T]] = {}

    def get(self, key: Hashable) -> Collection[T]:
        """The objects that have `key`, in no order."""
        return self._found.get(key, {}).values()

    def _put(self, uid: str, value: T) -> None:
        for key in self._keys_of(value):
            self._found.setdefault(key, {})[uid] = value

    def _drop(self, uid: str, value: T) -> None:
        for key in self._keys_of(value):
            holders = self._found.get(key)
            if holders is not None:
                holders.pop(uid, None)
                if not holders:
                    del self._found[key]


class WatchCache(Generic[T]):
    """The last known state of every watched object. Written by one Reflector, read in the same event loop.

    `synced` is set once the first list is complete. `malformed` holds what the server has but could not be read, with
    the error: such an object is absent from the cache (unknown is inactive), and its readers may want to know.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.synced = asyncio.Event()
        self.last_activity = -1.0
        self.malformed: dict[Key, str] = {}
        self._clock = clock
        self._by_key: dict[Key, _Entry[T]] = {}
        self._by_uid: dict[str, _Entry[T]] = {}
        self._indexes: list[Index[T]] = []
        self._handlers: list[Handler[T]] = []

    def get(self, namespace: str, name: str) -> T | None:
        """The object of that name."""
        entry = self._by_key.get(Key(namespace, name))
        return entry.value if entry else None

    def by_uid(self, uid: str) -> T | None:
        """The object with that UID."""
        entry = self._by_uid.get(uid)
        return entry.value if entry else None

    def values(self) -> Iterator[T]:
        """Every object. Do not await while iterating."""
        return (entry.value for entry in self._by_uid.values())

    def __len__(self) -> int:
        return len(self._by_uid)

    def index(self, keys_of: Callable[[T], Iterable[Hashable]]) -> Index[T]:
        """A live index by `keys_of`, which must give the same keys for the same value each time."""
        made = Index(keys_of)
        for entry in self._by_uid.values():
            made._put(entry.uid, entry.value)
        self._indexes.append(made)
        return made

    def on_change(self, handler: Handler[T]) -> None:
        """Call `handler` for each change, after cache and indexes have it. What is already known comes as Added first.

        Handlers run in the watch's own loop and must not block. One that raises is logged; the others still run.
        """
        self._handlers.append(handler)
        for entry in list(self._by_uid.values()):
            _call(handler, Added(entry.key, entry.uid, entry.value))

    def is_stale(self, now: float, limit: float) -> bool:
        """Whether the last sign of life from the server is more than `limit` seconds before `now` (monotonic)."""
        return not self.synced.is_set() or now - self.last_activity > limit

    def touch(self) -> None:
        """Note a sign of life: a page, an event, a bookmark, a stream that opened."""
        self.last_activity = self._clock()

    def put(self, key: Key, uid: str, version: str, value: T) -> None:
        """Take the state of an object at `version`. The same version again changes nothing."""
        self.malformed.pop(key, None)
        known = self._by_key.get(key)
        if known is not None and known.uid != uid:
            self.remove(key)
            known = None
        if known is not None and known.version == version:
            return
        if known is None:
            # Namespaces repeat thousands of times; keep one string of each.
            key = Key(intern(key.namespace), key.name)
        entry = _Entry(known.key if known else key, uid, version, value)
        self._by_key[entry.key] = self._by_uid[uid] = entry
        for index in self._indexes:
            if known is not None:
                index._drop(uid, known.value)
            index._put(uid, value)
        if known is None:
            self._tell(Added(entry.key, uid, value))
        else:
            self._tell(Modified(entry.key, uid, known.value, value))

    def remove(self, key: Key, last: T | None = None) -> None:
        """Forget an object; `last` is its final state if it was seen. Nothing happens if it is not known."""
        self.malformed.pop(key, None)
        known = self._by_key.pop(key, None)
        if known is None:
            return
        del self._by_uid[known.uid]
        for index in self._indexes:
            index._drop(known.uid, known.value)
        self._tell(Deleted(known.key, known.uid, known.value if last is None else last))

    def reject(self, key: Key, why: str) -> None:
        """Forget an object whose present state cannot be read, and remember why."""
        self.remove(key)
        self.malformed[key] = why

    def retain(self, seen: Collection[Key]) -> None:
        """Forget every object that a complete list did not show."""
        for key in [key for key in self._by_key if key not in seen]:
            self.remove(key)
        for key in [key for key in self.malformed if key not in seen]:
            del self.malformed[key]

    def _tell(self, change: Change[T]) -> None:
        for handler in self._handlers:
            _call(handler, change)


def _call(handler: Handler[T], change: Change[T]) -> None:
    try:
        handler(change)
    except Exception:
        _log.exception(
            "watch handler failed", change=type(change).__name__, namespace=change.key[0], name=change.key[1]
        )
