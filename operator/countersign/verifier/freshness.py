"""Whether what the verifier knows is fresh enough to answer from. If not it answers 503: never a guess.

The controller's Lease is the heartbeat: its `renewTime` moves about each second. It proves that the controller lives
and that changes still reach us; watches prove that by their bookmarks, the issuer's keys by their age.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from countersign.cluster.cache import Added, Change, Deleted

NEVER: Final = float("inf")


class Beat(msgspec.Struct, frozen=True):
    """What a Lease says of its holder."""

    holder: str
    renewed: str
    """`renewTime` as written: compared for being another, never for being recent (it is the holder's own clock)."""
    revision: int = 0
    """Its resourceVersion, a revision of etcd; 0: not known."""


class Heartbeat:
    """When the Lease last moved, by our own monotonic clock. Feed it every change that a watch reports."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moved_at = -NEVER
        self._seen_at = NEVER
        self._newest = 0
        self.rewound = False
        """Whether the Lease was seen to be older than before: etcd was restored, and only a new process may go on."""

    def on_change(self, change: Change[Beat]) -> None:
        """Take in a change. That a Lease exists proves nothing; that a holder renews it does."""
        if not isinstance(change, Deleted) and change.new.revision:
            self.rewound = self.rewound or change.new.revision < self._newest
            self._newest = max(self._newest, change.new.revision)
        if isinstance(change, Added | Deleted):
            self._seen_at = self._clock() if isinstance(change, Added) else NEVER
            return
        if change.new.holder and change.new.renewed != change.old.renewed:
            self._moved_at = self._clock()

    def age(self, now: float) -> float:
        """Seconds since it moved; infinite if it never did."""
        return now - self._moved_at

    def seen_for(self, now: float) -> float:
        """Seconds since the Lease was first seen, whether it moves or not; negative if there is none."""
        return now - self._seen_at


class Stream(Protocol):
    """A watch's cache, as far as its age goes."""

    last_activity: float

    def is_stale(self, now: float, limit: float) -> bool:
        """Whether it never listed, or is silent for longer than `limit` seconds."""


class Freshness:
    """Limits and ages of everything that an answer rests on."""

    def __init__(
        self,
        *,
        streams: Mapping[str, Stream],
        lease: Stream,
        heartbeat: Heartbeat,
        keys_age: Callable[[float], float],
        watch_limit: float,
        heartbeat_limit: float,
        lease_limit: float,
        keys_limit: float,
        clock: Callable[[], float],
    ) -> None:
        """`lease` is the watch that feeds `heartbeat`; a silence of it up to `lease_limit` seconds is nothing odd."""
        self._lease = lease
        self._lease_limit = lease_limit
        self._streams = tuple(streams.items())
        self._heartbeat = heartbeat
        self._keys_age = keys_age
        self._watch_limit = watch_limit
        self._heartbeat_limit = heartbeat_limit
        self._keys_limit = keys_limit
        self._clock = clock

    def problem(self) -> str:
        """What is too old, for people; empty if nothing is."""
        now = self._clock()
        return self._restored() or self._still(now) or self._cut_off(now)

    def unready(self) -> str:
        """The same, but for a controller that is away: it is so for every verifier, and none does better than another.

        Were all to leave the Service for that, relying parties would be told nothing rather than 503, and an upgrade
        would wait for verifiers while the controller waits for the upgrade.
        """
        now = self._clock()
        still = "" if self._is_controller_away(now) else self._still(now)
        return self._restored() or still or self._cut_off(now)

    def _restored(self) -> str:
        if self._heartbeat.rewound:
            return "etcd was restored from a snapshot: give all services another epoch, or restart this one"
        return ""

    def _still(self, now: float) -> str:
        if self._heartbeat.age(now) > self._heartbeat_limit:
            return f"the controller's Lease has not moved for {_seconds(self._heartbeat.age(now))}"
        return ""

    def _cut_off(self, now: float) -> str:
        for name, stream in self._streams:
            if stream.is_stale(now, self._watch_limit):
                return f"the watch of {name} has been silent for {_seconds(self.stream_age(stream, now))}"
        if self._keys_age(now) > self._keys_limit:
            return f"the issuer's keys were last fetched {_seconds(self._keys_age(now))} ago"
        return ""

    def _is_controller_away(self, now: float) -> bool:
        """Whether the API server itself says that the Lease stands still: its watch lives, and it was seen so long."""
        seen_for = self._heartbeat.seen_for(now)
        return seen_for > self._heartbeat_limit and not self._lease.is_stale(now, self._lease_limit)

    def ages(self) -> dict[str, float]:
        """Seconds since the last sign of life: `heartbeat`, `keys`, and each stream by its name."""
        now = self._clock()
        ages = {"heartbeat": self._heartbeat.age(now), "keys": self._keys_age(now)}
        return ages | {name: self.stream_age(stream, now) for name, stream in self._streams}

    @staticmethod
    def stream_age(stream: Stream, now: float) -> float:
        """Seconds since its last sign of life; infinite if there was none."""
        return now - stream.last_activity if stream.last_activity >= 0 else NEVER


def _seconds(age: float) -> str:
    return "ever" if age == NEVER else f"{age:.0f} s"
