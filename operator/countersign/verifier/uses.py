"""What this verifier has seen of each instance's tokens: used, refused, from where, at whose request. In memory only.

Only what an introspector of the token's audience asked about counts, as the decision established: whoever has no right
to ask leaves no trace here, whatever it sends. The controller collects it (`verifier.internal`) into the grants.

A relying party that asks a thousand times a second must cost the controller nothing: an entry is *marked* as changed
when something new is known of it, and otherwise each MARK_SECONDS at the most.
"""

import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final

from countersign.access.decision import Asker, Reason
from countersign.api.verifier_calls import AddressUse, TokenUses, UsesQuestion, UsesReport
from countersign.verifier.records import Record

MAX_ENTRIES: Final = 10_000
"""Pods, each once for every audience. Of more, those of the audience that has most go first, the longest unused first:
whoever makes many pods for an audience of its own pushes nobody else out."""
MAX_ADDRESSES: Final = 8
MAX_ASKERS: Final = 8
MAX_REPORTED: Final = 500
"""In one answer: about 150 KB, and 3 ms in which nothing else is answered."""
MARK_SECONDS: Final = 30.0

UNCOUNTED: Final[frozenset[Reason]] = frozenset(
    {"AudienceNotSingle", "AudienceUnknown", "AudienceNotAccepted", "AskerNotIntrospector"}
)
"""What the decision says before, or instead of, that the asker is an introspector of the audience."""


class _Place:
    __slots__ = ("asker", "first", "last")

    def __init__(self, now: float) -> None:
        self.first = self.last = now
        self.asker: Asker | None = None


class _Entry:
    __slots__ = (
        "active", "addresses", "askers", "cursor", "first_active", "last_active", "last_reason", "last_refused",
        "marked", "refused",
    )  # fmt: skip

    def __init__(self) -> None:
        self.active = 0
        self.first_active = self.last_active = self.last_refused = 0.0
        self.last_reason = ""
        self.refused: dict[str, int] = {}
        self.addresses: dict[str, _Place] = {}
        self.askers: dict[Asker, None] = {}
        self.cursor = 0
        self.marked = 0.0


_Found = tuple[str, str, _Entry]
"""Audience and UID of the pod."""


class Uses:
    """A Recorder (`verifier.records`)."""

    def __init__(
        self,
        started: datetime,
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = MAX_ENTRIES,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`clock`: seconds since 1970."""
        # In the order of their starts, by which it is known which verifier ended long ago.
        self.name = f"{int(started.timestamp() * 1000):014x}-{entropy(8).hex()}"
        self._clock = clock
        self._capacity = capacity
        self._size = 0
        self._cursor = 0
        self._audiences: dict[str, dict[str, _Entry]] = {}
        """By audience and UID of the pod, in the order of the last marks."""

    def __len__(self) -> int:
        return self._size

    def __call__(self, record: Record) -> None:
        """Take in one answer."""
        answer = record.answer
        decision, claims, known = answer.decision, answer.claims, answer.asker
        if decision is None or claims is None or claims.pod is None or known is None:
            return
        if decision.reason in UNCOUNTED or record.endpoint == "explain":  # an explanation is no use
            return
        now = self._clock()
        [audience] = claims.audiences
        uid, asker, address = claims.pod.uid, known.asker, record.use.source_address
        pods = self._audiences.get(audience)
        entry = pods.get(uid) if pods is not None else None
        is_new = entry is None
        if entry is None:
            entry = self._enter(audience, uid)
        if decision.active:
            if not entry.active:
                is_new = True
                entry.first_active = now
            entry.active += 1
            entry.last_active = now
        else:
            reason = decision.reason
            before = entry.refused.get(reason, 0)
            is_new = is_new or not before
            entry.refused[reason] = before + 1
            entry.last_refused, entry.last_reason = now, reason
        if asker not in entry.askers:
            is_new = True
            _forget_oldest(entry.askers, MAX_ASKERS)
            entry.askers[asker] = None
        elif len(entry.askers) > 1:
            entry.askers[asker] = entry.askers.pop(asker)  # the last is the one that asked last
        if address:
            is_new = self._at(entry, address, asker, now) or is_new
        if is_new or now - entry.marked >= MARK_SECONDS:
            self._mark(audience, uid, entry, now)

    def report(self, question: UsesQuestion) -> UsesReport:
        """What has changed since the asker last knew, within bounds."""
        since = question.known.get(self.name, 0)
        found = list(islice(self._changed(since), MAX_REPORTED + 1)) if since < self._cursor else []
        page = found[:MAX_REPORTED]
        return UsesReport(
            verifier=self.name,
            cursor=page[-1][2].cursor if page else self._cursor,
            more=len(page) < len(found),
            uses=tuple(_told(*one) for one in page),
        )

    def _changed(self, since: int) -> Iterator[_Found]:
        """In the order of the marks, as the pods of each audience are."""
        each = (_marked_since(audience, pods, since) for audience, pods in self._audiences.items())
        return heapq.merge(*each, key=lambda found: found[2].cursor)

    def _enter(self, audience: str, uid: str) -> _Entry:
        if self._size >= self._capacity:
            crowded = max(self._audiences, key=lambda name: len(self._audiences[name]))
            pods = self._audiences[crowded]
            del pods[next(iter(pods))]
            if not pods:
                del self._audiences[crowded]
            self._size -= 1
        self._size += 1
        entry = self._audiences.setdefault(audience, {})[uid] = _Entry()
        return entry

    def _at(self, entry: _Entry, address: str, asker: Asker, now: float) -> bool:
        """Note an address; whether it is new."""
        place = entry.addresses.get(address)
        is_new = place is None
        if place is None:
            if len(entry.addresses) >= MAX_ADDRESSES:
                del entry.addresses[min(entry.addresses, key=lambda one: entry.addresses[one].last)]
            place = entry.addresses[address] = _Place(now)
        place.last, place.asker = now, asker
        return is_new

    def _mark(self, audience: str, uid: str, entry: _Entry, now: float) -> None:
        self._cursor += 1
        entry.cursor, entry.marked = self._cursor, now
        pods = self._audiences[audience]
        pods[uid] = pods.pop(uid)


def _marked_since(audience: str, pods: dict[str, _Entry], since: int) -> Iterator[_Found]:
    return ((audience, uid, entry) for uid, entry in pods.items() if entry.cursor > since)


def _forget_oldest(found: dict[Asker, None], limit: int) -> None:
    while len(found) >= limit:
        del found[next(iter(found))]


def _told(audience: str, uid: str, entry: _Entry) -> TokenUses:
    return TokenUses(
        pod_uid=uid,
        audience=audience,
        active=entry.active,
        first_active=entry.first_active,
        last_active=entry.last_active,
        refused=dict(entry.refused),
        last_refused=entry.last_refused,
        last_reason=entry.last_reason,
        addresses=tuple(
            AddressUse(address=address, first=place.first, last=place.last, asker=_name(place.asker))
            for address, place in entry.addresses.items()
        ),
        askers=tuple(_names(entry.askers)),
    )


def _names(askers: Iterable[Asker]) -> Iterator[str]:
    return (_name(asker) for asker in askers)


def _name(asker: Asker | None) -> str:
    return f"{asker.namespace}/{asker.name}" if asker is not None else ""
