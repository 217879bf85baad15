"""How the running pods stand with each policy: the figures in its status."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, NamedTuple

from countersign.controller.watches.pod_record import PodRecord

TOP_REASONS: Final = 5


class Figures(NamedTuple):
    """How the running pods stand with one policy."""

    governed: int = 0
    failing: int = 0
    """Would be refused if they were created now, were the policy's mode Enforce."""
    unknown: int = 0
    """Nobody knows yet, or the registry could not tell."""
    not_injected: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    expiring: int = 0
    """An attestation will soon be too old."""
    first_end: datetime | None = None
    """When the first of those will be."""
    withdrawn: int = 0
    """Their evidence does not hold any more."""
    missed: int = 0
    """Were never admitted under it: their grants are records of a refusal."""


def counts(records: Iterable[PodRecord], refused: AbstractSet[str] = frozenset()) -> dict[str, Figures]:
    """The figures of each policy, by its UID. `refused`: UIDs of the pods whose grant is the record of a refusal."""
    governed: Counter[str] = Counter()
    failing: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    not_injected: Counter[str] = Counter()
    expiring: Counter[str] = Counter()
    ends: dict[str, datetime] = {}
    withdrawn: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    for record in records:
        qualification = record.qualification
        if qualification is None or record.track.ended:
            continue
        if record.evidence is not None:
            withdrawn.update(record.evidence.withdrawn_for)
            expiring.update(record.evidence.expiring)
            end = record.evidence.too_old_at
            if end is not None:
                ends.update({uid: min(ends.get(uid, end), end) for uid in record.evidence.expiring})
        words = {word.uid: word for word in record.outlook.words} if record.outlook is not None else {}
        governed.update(qualification.policies)
        if record.track.uid in refused:
            missed.update(qualification.policies)
        for uid in qualification.policies:
            word = words.get(uid)
            if word is None or word.outcome == "unknown":
                unknown[uid] += 1
            elif word.outcome == "wouldDeny":
                failing[uid] += 1
                reasons.setdefault(uid, Counter()).update(word.reasons)
            if word is not None and word.not_injected:
                not_injected[uid] += 1
    return {
        uid: Figures(
            total,
            failing[uid],
            unknown[uid],
            not_injected[uid],
            tuple(sorted(reasons.get(uid, Counter()).items(), key=lambda found: (-found[1], found[0]))[:TOP_REASONS]),
            expiring[uid],
            ends.get(uid),
            withdrawn[uid],
            missed[uid],
        )
        for uid, total in governed.items()
    }
