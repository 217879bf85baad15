"""What gates have found out about the images of running pods since this process leads, and what to ask next.

One entry for each question (`trust.evidence.reverification.Inquiry`), however many pods it is about. Each namespace
that has something due has its turn, and in it what is withdrawn comes first, then what grows old first: nobody keeps
the evidence of others from being looked at by having much of their own.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.reverification import Inquiry

SOON_SECONDS: Final = 15.0
"""The shortest time between two looks at one image. It is kept where an attestation is about to be too old, and where
one was just found not to hold: a new one may be there any moment."""
MAX_SERVED: Final = 4096
"""Namespaces of which it is remembered when they had their turn, before those that ask nothing more are forgotten."""
UNKNOWN_SECONDS: Final = 60.0
"""When to ask again where nothing definite could be had."""


class Entry:
    """One question."""

    __slots__ = ("answered", "ask_at", "facts", "pods", "too_old_at", "withdrawn", "withdrawn_since")

    def __init__(self) -> None:
        self.facts: ImageFacts | None = None
        """All that gates have shown so far; None: none has given a definite answer yet."""
        self.answered = -math.inf
        """When the last definite answer came. All times are monotonic."""
        self.ask_at = -math.inf
        self.too_old_at = math.inf
        """When the first pod that asks has an attestation grow too old."""
        self.withdrawn_since = math.inf
        """Since when it does not hold for some pod; infinity: it does."""
        self.withdrawn: set[str] = set()
        """UIDs of the pods for which it does not."""
        self.pods: dict[str, None] = {}
        """UIDs of those that it is about."""

    def order(self) -> tuple[bool, float, float]:
        """Sort key within a namespace: what is asked about first comes first."""
        return self.withdrawn_since == math.inf, self.too_old_at, self.ask_at


class Reverified:
    """The entries."""

    def __init__(self, *, refresh: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`refresh`: seconds between two looks at evidence with which all is well."""
        self._refresh = refresh
        self._monotonic = monotonic
        self._entries: dict[Inquiry, Entry] = {}
        self._of_pod: dict[str, tuple[Inquiry, ...]] = {}
        self._served: dict[str, float] = {}
        """When a namespace had its turn last."""

    def __len__(self) -> int:
        return len(self._entries)

    def found(self, uid: str, inquiries: Mapping[str, Inquiry]) -> dict[str, ImageFacts]:
        """What is known of a pod's images, by image string. From now on they are asked about, and no others of it."""
        wanted = tuple(inquiries.values())
        if self._of_pod.get(uid, ()) != wanted:
            self.forget(uid)
            for one in wanted:
                self._entries.setdefault(one, Entry()).pods[uid] = None
            if wanted:
                self._of_pod[uid] = wanted
        known = ((image, self._entries[one].facts) for image, one in inquiries.items())
        return {image: facts for image, facts in known if facts is not None}

    def known(self, uid: str) -> dict[str, ImageFacts]:
        """What is known of its images, by `registry/repository@digest`."""
        entries = ((one.need.image, self._entries[one].facts) for one in self._of_pod.get(uid, ()))
        return {image: facts for image, facts in entries if facts is not None}

    def forget(self, uid: str) -> None:
        """Ask for this pod no more."""
        for one in self._of_pod.pop(uid, ()):
            entry = self._entries[one]
            entry.pods.pop(uid, None)
            entry.withdrawn.discard(uid)
            if not entry.pods:
                del self._entries[one]

    def pods(self) -> list[str]:
        """UIDs of all that are asked for."""
        return list(self._of_pod)

    def judged(self, uid: str, *, withdrawn: bool, too_old_at: datetime | None, now: datetime) -> None:
        """What came of the pod's judgement, by which the next look at its images is planned."""
        at = self._monotonic()
        ends = math.inf if too_old_at is None else at + (too_old_at - now).total_seconds()
        for one in self._of_pod.get(uid, ()):
            entry = self._entries[one]
            if withdrawn:
                entry.withdrawn.add(uid)
            else:
                entry.withdrawn.discard(uid)
            entry.withdrawn_since = min(entry.withdrawn_since, at) if entry.withdrawn else math.inf
            entry.too_old_at = ends if entry.too_old_at < at else min(entry.too_old_at, ends)
            self._plan(entry)

    def next(self) -> Inquiry | None:
        """What to ask now; None: nothing is due."""
        now, due = self._monotonic(), list(self._due())
        if not due:
            return None
        if len(self._served) > MAX_SERVED:
            asking = {one.namespace for one in self._entries}
            self._served = {name: at for name, at in self._served.items() if name in asking}
        namespace = min({one.namespace for one, _ in due}, key=lambda name: (self._served.get(name, -math.inf), name))
        self._served[namespace] = now
        inquiry, _ = min((pair for pair in due if pair[0].namespace == namespace), key=lambda pair: pair[1].order())
        return inquiry

    def due(self) -> int:
        """How many questions are due."""
        return sum(1 for _ in self._due())

    def until_next(self) -> float:
        """Seconds until the next is due; infinity: never."""
        return max(min((one.ask_at for one in self._entries.values()), default=math.inf) - self._monotonic(), 0.0)

    def entry(self, inquiry: Inquiry) -> Entry | None:
        """The entry of a question; None: no pod asks it any more."""
        return self._entries.get(inquiry)

    def answered(self, entry: Entry, facts: ImageFacts) -> bool:
        """Take in what is known now; whether any pod is to be judged anew for it."""
        changed = entry.facts != facts
        entry.facts, entry.answered = facts, self._monotonic()
        if changed:
            # Who is judged by it says anew how it stands.
            entry.too_old_at = math.inf
        self._plan(entry)
        return changed

    def postpone(self, entry: Entry) -> None:
        """Nothing definite could be had."""
        entry.ask_at = self._monotonic() + min(UNKNOWN_SECONDS, self._refresh)

    def _plan(self, entry: Entry) -> None:
        """The closer to an end, and the younger a withdrawal, the sooner: each time after half of what is left, or of
        what has passed since. So some ten looks come before a deadline, and as many after a failing attestation.
        """
        if entry.answered == -math.inf:
            return
        at = entry.answered
        pause = self._refresh
        if entry.too_old_at < math.inf:
            pause = min(pause, max((entry.too_old_at - at) / 2, SOON_SECONDS))
        if entry.withdrawn_since < math.inf:
            pause = min(pause, max((at - entry.withdrawn_since) / 2, SOON_SECONDS))
        entry.ask_at = at + min(pause, self._refresh)

    def _due(self) -> Iterator[tuple[Inquiry, Entry]]:
        now = self._monotonic()
        return ((one, entry) for one, entry in self._entries.items() if entry.ask_at <= now)
