"""What happened to one pod instance, in order, out of sightings from several places. Pure.

Sightings are joined by what cannot be shared or chosen: the pod's UID, the grant's name (made from a nonce), a token's
id. A name alone joins weakly: it says nothing of which instance bore it, so time decides between those that did.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, TypedDict

import msgspec

Source = Literal["audit log", "access log", "log", "event", "object"]

BEFORE_BIRTH: Final = timedelta(seconds=10)
"""How long before the first sight of an instance what bears its name alone may belong to it: its own admission."""
A_SECOND: Final = timedelta(seconds=1)


class Sighting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that was seen. Empty: not known, or not said."""

    at: datetime
    source: Source
    what: str
    who: str = ""
    detail: str = ""
    pod: str = ""
    """namespace/name; so is `grant`."""
    pod_uid: str = ""
    grant: str = ""
    jti: str = ""
    order: str = ""
    """Kind and name, as a grant's `causedBy` has it."""
    claimed: bool = False
    """Its keys are somebody's claim (a request that was refused): it is shown, and nothing is learnt from it."""
    to_the_second: bool = False
    """`at` is known to the second: an object's times are."""
    ends: bool = False
    """Of such a time: it is the end of something, so it stands behind the rest of its second."""
    rank: int = 5
    """Of such a time: in its second it stands behind exact ones of a lower rank (admission 0, grant 2, its state 4)."""


class Keys(TypedDict, total=False):
    """The members of a Sighting by which it is joined."""

    pod: str
    pod_uid: str
    grant: str
    jti: str
    order: str


class Known(msgspec.Struct, frozen=True):
    """By what the subject is known."""

    pods: frozenset[str] = frozenset()
    pod_uids: frozenset[str] = frozenset()
    grants: frozenset[str] = frozenset()
    jtis: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()

    def words(self) -> tuple[bytes, ...]:
        """What any line about it must contain one of."""
        names = (one.rpartition("/")[2].rpartition(" ")[2] for one in (*self.pods, *self.grants, *self.orders))
        return tuple(sorted({one.encode() for one in (*names, *self.pod_uids, *self.jtis) if one}))


class Instance(msgspec.Struct, frozen=True):
    """An instance of a pod name."""

    pod_uid: str
    first: datetime
    last: datetime


def is_surely(known: Known, one: Sighting) -> bool:
    """Whether it is joined by more than a name."""
    return (
        one.pod_uid in known.pod_uids
        or one.grant in known.grants
        or one.jti in known.jtis
        or one.order in known.orders
    )  # fmt: skip


def concerns(known: Known, one: Sighting) -> bool:
    """Whether it may belong to the subject, or tells when another instance of its name lived."""
    return is_surely(known, one) or one.pod in known.pods


def learn(known: Known, sightings: Iterable[Sighting]) -> Known:
    """What is known besides, by sightings that are joined for sure. An order reaches many: nothing is learnt by one."""
    certain = [
        one
        for one in sightings
        if not one.claimed and (one.pod_uid in known.pod_uids or one.grant in known.grants or one.jti in known.jtis)
    ]
    return Known(
        pods=known.pods.union(one.pod for one in certain if one.pod),
        pod_uids=known.pod_uids.union(one.pod_uid for one in certain if one.pod_uid),
        grants=known.grants.union(one.grant for one in certain if one.grant),
        jtis=known.jtis.union(one.jti for one in certain if one.jti),
        orders=known.orders.union(one.order for one in certain if one.order),
    )


def instances(pods: Iterable[str], sightings: Iterable[Sighting]) -> tuple[Instance, ...]:
    """The instances that bore one of these names, the oldest first."""
    names = frozenset(pods)
    found: dict[str, Instance] = {}
    for one in sightings:
        if one.claimed or not one.pod_uid or one.pod not in names:
            continue
        seen = found.get(one.pod_uid, Instance(one.pod_uid, one.at, one.at))
        found[one.pod_uid] = Instance(one.pod_uid, min(seen.first, one.at), max(seen.last, one.at))
    return tuple(sorted(found.values(), key=lambda each: (each.first, each.pod_uid)))


def timeline(known: Known, sightings: Sequence[Sighting]) -> tuple[Sighting, ...]:
    """The subject's sightings in order of time, each once."""
    born = [(one.first, one.pod_uid) for one in instances(known.pods, sightings)]
    mine = dict.fromkeys(one for one in sightings if is_surely(known, one) or _by_name(known, one, born))
    exact = sorted((one.at, one.rank) for one in mine if not one.to_the_second)
    return tuple(sorted(mine, key=lambda one: (_moment(one, exact), one.rank, one.what, one.detail)))


def _by_name(known: Known, one: Sighting, born: Sequence[tuple[datetime, str]]) -> bool:
    """Of several instances of a name, what bears it alone is of the last that was born before."""
    if one.pod not in known.pods or one.pod_uid or one.grant or one.jti:
        return False
    if not born or not known.pod_uids:
        return True
    before = [uid for first, uid in born if first - BEFORE_BIRTH <= one.at]
    return (before[-1] if before else born[0][1]) in known.pod_uids


def _moment(one: Sighting, exact: Sequence[tuple[datetime, int]]) -> datetime:
    if not one.to_the_second:
        return one.at
    end = one.at + A_SECOND
    if one.ends:
        return end - timedelta(microseconds=1)
    return max((at for at, rank in exact if one.at <= at < end and rank < one.rank), default=one.at)


class Shown(msgspec.Struct, frozen=True):
    """A sighting, or several that follow each other and differ in nothing but their time."""

    first: Sighting
    count: int
    last: datetime


def coalesced(sightings: Iterable[Sighting]) -> tuple[Shown, ...]:
    """For people: what repeats, once."""
    shown: list[Shown] = []
    for one in sightings:
        if shown and _alike(shown[-1].first, one):
            before = shown[-1]
            shown[-1] = Shown(before.first, before.count + 1, max(before.last, one.at))
        else:
            shown.append(Shown(one, 1, one.at))
    return tuple(shown)


def _alike(one: Sighting, other: Sighting) -> bool:
    return (one.source, one.what, one.who, one.detail, one.jti) == (
        other.source, other.what, other.who, other.detail, other.jti,
    )  # fmt: skip
