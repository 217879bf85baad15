"""Admissions counted by several gates that come and go, summed up so that nothing counts twice and nothing gets lost.

Each gate counts for itself from its start on, and its numbers only grow; a restart makes another gate, under another
name. What was collected of each stands in the policy's status, so a sum is a matter of the status alone: for each gate
the larger of what is known and what it reports (a grow-only counter: Shapiro et al., "A comprehensive study of
Convergent and Commutative Replicated Data Types", INRIA RR-7506, 2011, section 3.1.1). Collecting twice, late or out of
order changes nothing, whichever controller does it. What a gate counted after it was last asked ends with it.
"""

from collections import Counter
from collections.abc import Iterable
from functools import reduce
from typing import Final

import msgspec

from countersign.api.meta import UTCTime
from countersign.api.policy_status import AdmissionCounts, GateTally, ReasonCount
from countersign.trust.verdicts.outlook import Weighed

MAX_GATES: Final = 16
"""Gates that a status lists (api.policy); those that started first are then counted together."""
TOP_REASONS: Final = 5


def counted(tally: GateTally, weighed: Weighed) -> GateTally:
    """The tally with one admission more."""
    match weighed.outcome:
        case "allowed":
            return msgspec.structs.replace(tally, allowed=tally.allowed + 1)
        case "unknown":
            return msgspec.structs.replace(tally, unknown=tally.unknown + 1)
        case "wouldDeny":
            reasons = _numbers(tally) + Counter(set(weighed.reasons))
            return msgspec.structs.replace(tally, would_deny=tally.would_deny + 1, reasons=_listed(reasons))


def collected(
    before: AdmissionCounts | None, generation: int, reports: Iterable[GateTally], now: UTCTime
) -> AdmissionCounts:
    """The counts of a policy's generation with what gates report of it.

    `before` is what stands in the status; of another generation, or None, the count starts anew at `now`.
    """
    if before is None or before.generation != generation:
        before = AdmissionCounts(generation=generation, since=now)
    known = {one.gate: one for one in before.gates}
    earlier = before.earlier
    for report in reports:
        if earlier is not None and report.gate <= earlier.gate:
            continue  # a part of it is in `earlier` already, and which cannot be told any more
        held = known.get(report.gate)
        known[report.gate] = report if held is None else _larger(held, report)
    listed = [known[name] for name in sorted(known)]
    while len(listed) > MAX_GATES:
        oldest = listed.pop(0)
        earlier = oldest if earlier is None else msgspec.structs.replace(_sum(earlier, oldest), gate=oldest.gate)
    total = reduce(_sum, listed, earlier or GateTally(gate=""))
    return AdmissionCounts(
        generation=generation,
        since=before.since,
        allowed=total.allowed,
        would_deny=total.would_deny,
        unknown=total.unknown,
        top_reasons=top(_numbers(total)),
        gates=tuple(listed),
        earlier=earlier,
    )


def top(reasons: Counter[str]) -> tuple[ReasonCount, ...]:
    """The most frequent reasons, those of one number by their names."""
    return _listed(reasons)[:TOP_REASONS]


def _larger(one: GateTally, other: GateTally) -> GateTally:
    return GateTally(
        gate=one.gate,
        allowed=max(one.allowed, other.allowed),
        would_deny=max(one.would_deny, other.would_deny),
        unknown=max(one.unknown, other.unknown),
        reasons=_listed(_numbers(one) | _numbers(other)),
    )


def _sum(one: GateTally, other: GateTally) -> GateTally:
    return GateTally(
        gate=one.gate,
        allowed=one.allowed + other.allowed,
        would_deny=one.would_deny + other.would_deny,
        unknown=one.unknown + other.unknown,
        reasons=_listed(_numbers(one) + _numbers(other)),
    )


def _numbers(tally: GateTally) -> Counter[str]:
    return Counter({one.reason: one.count for one in tally.reasons})


def _listed(reasons: Counter[str]) -> tuple[ReasonCount, ...]:
    ordered = sorted(reasons.items(), key=lambda found: (-found[1], found[0]))
    return tuple(ReasonCount(reason=reason, count=count) for reason, count in ordered)
