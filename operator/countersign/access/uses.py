"""Uses of an instance's tokens, summed up over verifiers that come and go, and what a grant's status keeps of them.

Each verifier counts for itself from its start on, under a name of its own; its numbers only grow, so the later of two
reports is the larger one. Taking a report in twice, late or out of order changes nothing: a grow-only counter, as
`trust.verdicts.tally` is. What a verifier has seen since it was last asked ends with it.

Times are seconds since 1970, 0: never.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Final

from countersign.api import clock
from countersign.api.grant import GrantUses, VerifierRefusals
from countersign.api.verifier_calls import AddressUse, TokenUses

MAX_VERIFIERS: Final = 8
"""Verifiers that a status lists (api.grant); those that started first are then counted together."""
MAX_AUDIENCES: Final = 64
MAX_REASON: Final = 64


def larger(one: TokenUses, other: TokenUses) -> TokenUses:
    """Both reports of one verifier about the same pod and audience."""
    return _both(one, other, _larger_counts(one.refused, other.refused), max(one.active, other.active))


def together(uses: Iterable[TokenUses]) -> TokenUses:
    """What several verifiers have seen of the same pod and audience. Raises TypeError if there is none."""
    return reduce(_added, uses)


def recorded(before: GrantUses | None, seen: Iterable[tuple[str, TokenUses]]) -> GrantUses | None:
    """What a grant's status is to say: what it says, and what each verifier (by name) has seen. None: nothing yet."""
    known = list(seen)
    if not known:
        return before
    before = before or GrantUses()
    total = together(uses for _, uses in known)
    refusals = _refusals(before, known)
    audiences = sorted({*before.audiences, *(uses.audience for _, uses in known if uses.active)})
    last_refused = _later(before.last_refused_at, total.last_refused)
    after = GrantUses(
        first_used_at=_earlier(before.first_used_at, total.first_active),
        last_used_at=_later(before.last_used_at, total.last_active),
        audiences=tuple(audiences[:MAX_AUDIENCES]),
        refused=sum(one.count for one in (*refusals.refused_by, refusals.earlier) if one is not None),
        last_refused_at=last_refused,
        last_refused_reason=(
            before.last_refused_reason if last_refused == before.last_refused_at else total.last_reason[:MAX_REASON]
        ),
        refused_by=refusals.refused_by,
        earlier=refusals.earlier,
    )
    return None if after == GrantUses() else after


def is_due(before: GrantUses | None, after: GrantUses | None, every: float) -> bool:
    """Whether it is worth a write of its own: something is there for the first time, or `every` seconds newer."""
    if after is None or before == after:
        return False
    if before is None:
        return True
    first = (
        (before.first_used_at is None and after.first_used_at is not None)
        or (before.last_refused_at is None and after.last_refused_at is not None)
        or len(after.audiences) > len(before.audiences)
    )
    return first or latest(after) - latest(before) >= every


def latest(uses: GrantUses) -> float:
    """The last use, accepted or refused."""
    return max(seconds_of(uses.last_used_at), seconds_of(uses.last_refused_at))


def seconds_of(text: str | None) -> float:
    """A time as the API has it."""
    return clock.parse(text).timestamp() if text else 0.0


def _refusals(before: GrantUses, known: Sequence[tuple[str, TokenUses]]) -> GrantUses:
    counts = {one.verifier: one.count for one in before.refused_by}
    earlier = before.earlier
    found: dict[str, int] = {}
    for name, uses in known:
        if uses.refused:
            found[name] = found.get(name, 0) + sum(uses.refused.values())
    for name, count in found.items():
        if earlier is not None and name <= earlier.verifier:
            continue  # a part of it is in `earlier` already, and which cannot be told any more
        counts[name] = max(counts.get(name, 0), count)
    listed = [VerifierRefusals(verifier=name, count=counts[name]) for name in sorted(counts)]
    while len(listed) > MAX_VERIFIERS:
        oldest = listed.pop(0)
        earlier = VerifierRefusals(verifier=oldest.verifier, count=oldest.count + (earlier.count if earlier else 0))
    return GrantUses(refused_by=tuple(listed), earlier=earlier)


def _added(one: TokenUses, other: TokenUses) -> TokenUses:
    refused = {
        reason: one.refused.get(reason, 0) + other.refused.get(reason, 0) for reason in {*one.refused, *other.refused}
    }
    return _both(one, other, refused, one.active + other.active)


def _both(one: TokenUses, other: TokenUses, refused: dict[str, int], active: int) -> TokenUses:
    firsts = [seconds for seconds in (one.first_active, other.first_active) if seconds]
    later = max(one, other, key=lambda uses: (max(uses.last_active, uses.last_refused), uses.askers))
    earlier = one if later is other else other
    return TokenUses(
        pod_uid=one.pod_uid,
        audience=one.audience,
        active=active,
        first_active=min(firsts, default=0.0),
        last_active=max(one.last_active, other.last_active),
        refused=refused,
        last_refused=max(one.last_refused, other.last_refused),
        last_reason=max(one, other, key=lambda uses: (uses.last_refused, uses.last_reason)).last_reason,
        addresses=_addresses((*one.addresses, *other.addresses)),
        askers=tuple(dict.fromkeys((*(name for name in earlier.askers if name not in later.askers), *later.askers))),
    )


def _larger_counts(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {reason: max(one.get(reason, 0), other.get(reason, 0)) for reason in {*one, *other}}


def _addresses(uses: Iterable[AddressUse]) -> tuple[AddressUse, ...]:
    found: dict[str, AddressUse] = {}
    for use in uses:
        known = found.get(use.address)
        if known is None:
            found[use.address] = use
        else:
            found[use.address] = AddressUse(
                address=use.address,
                first=min(known.first, use.first),
                last=max(known.last, use.last),
                asker=max(known, use, key=lambda one: (one.last, one.asker)).asker,
            )
    return tuple(found[address] for address in sorted(found))


def _later(text: str | None, seconds: float) -> str | None:
    # Both are whole seconds: what is not later changes nothing.
    return clock.format_time(clock.from_seconds(seconds)) if int(seconds) > seconds_of(text) else text


def _earlier(text: str | None, seconds: float) -> str | None:
    if not seconds or (text is not None and seconds_of(text) <= int(seconds)):
        return text
    return clock.format_time(clock.from_seconds(seconds))
