"""Misuse of an instance's tokens: what uses look like that the instance itself would not make.

Pure, and careful: of what is not known, nothing follows. Relying parties tell addresses, and what lies between them and
the pod can change those; so only an audience whose owner says what they are worth (`sourceAddresses`) has findings
about them. Times are seconds since 1970.

    UsedAfterEnd    a use, refused by then, more than IN_FLIGHT_SECONDS after the pod had ended
    OtherAddress    Direct: a use from an address that the pod never had
    TwoAddresses    Steady: uses from two addresses of one family (IPv4, IPv6) in turn, not one after the other
    UnlikeSiblings  a use for an audience that no replica of the same images uses, though they hold it as well
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from countersign.api import clock
from countersign.api.audience import SourceAddresses
from countersign.api.grant import MisuseKind
from countersign.api.verifier_calls import AddressUse, TokenUses

IN_FLIGHT_SECONDS: Final = 60.0
"""How long after the end of a pod its last requests may be on their way, or wait in a relying party's own queue."""
SKEW_SECONDS: Final = 10.0
"""How far the clocks of two verifiers may differ, and how long the old address lingers when a pod's changes."""


class Finding(NamedTuple):
    """One misuse."""

    kind: MisuseKind
    audience: str
    at: float
    message: str
    """What was expected, what was found, when, and which relying party told it."""


class Instance(NamedTuple):
    """What is known of the pod."""

    ended_at: float | None = None
    """When it ended, or a time thereafter; None: it has not, or nobody can tell."""
    addresses: frozenset[str] = frozenset()
    """All that it was seen to have, in canonical form. Empty: not known, or its node's (hostNetwork)."""
    addresses_since: float = 0.0
    """Since when all of its addresses are known; 0: since it was created."""
    own_network: bool = True
    """False: it uses its node's addresses (hostNetwork), and so do others."""


class Limits(NamedTuple):
    """When replicas say enough about each other to compare them."""

    siblings: int = 2
    observed_seconds: float = 3600.0
    """How long each of them, and the instance itself, has been seen in use."""
    settled_seconds: float = 600.0
    """How long the instance has used the audience: replicas begin to use a new one within minutes of each other."""


DEFAULT_LIMITS: Final = Limits()


class Replica(NamedTuple):
    """One pod of a controller, for comparison."""

    uid: str
    live: bool
    images: tuple[tuple[str, str], ...]
    """Container and digest: pods of other images are of another release."""
    granted: frozenset[str]
    """Audiences that it may hold."""
    used: frozenset[str]
    """Audiences that it was ever seen to use."""
    first_used: float
    """0: it was not seen in use."""


def findings(
    uses: Iterable[TokenUses], instance: Instance, worth: Mapping[str, SourceAddresses]
) -> tuple[Finding, ...]:
    """What speaks of misuse, at most one finding of each kind for an audience.

    `uses`: one for each audience (`access.uses.together`). `worth`: of each audience's addresses; one that is not there
    is Ignored.
    """
    found: list[Finding | None] = []
    for use in uses:
        found.append(_after_end(use, instance))
        match worth.get(use.audience, "Ignored"):
            case "Direct":
                found.append(_other_address(use, instance))
            case "Steady":
                found.append(_two_addresses(use, instance))
            case "Ignored":
                pass
    return tuple(one for one in found if one is not None)


def still_counts(kind: MisuseKind, worth: SourceAddresses) -> bool:
    """Whether a finding of before may end an instance by what its audience's addresses are worth now.

    UsedAfterEnd never does: the identity is over by then.
    """
    match kind:
        case "UsedAfterEnd":
            return False
        case "OtherAddress":
            return worth == "Direct"
        case "TwoAddresses":
            return worth != "Ignored"
        case "UnlikeSiblings":
            return True


def unlike_siblings(
    replica: Replica,
    uses: Collection[TokenUses],
    siblings: Iterable[Replica],
    now: float,
    limits: Limits = DEFAULT_LIMITS,
) -> Finding | None:
    """An audience that the replica uses and its siblings do not, if they have been seen long enough to say so.

    `siblings`: pods of the same top-level controller, also ended ones: what one of them ever used is ordinary.
    """
    if not _observed(replica, now, limits):
        return None
    alike = [one for one in siblings if one.uid != replica.uid and one.images == replica.images]
    for use in uses:
        if not use.first_active or now - use.first_active < limits.settled_seconds:
            continue
        holders = [one for one in alike if use.audience in one.granted]
        told = [one for one in holders if one.live and _observed(one, now, limits)]
        if len(told) < limits.siblings or any(use.audience in one.used for one in alike):
            continue
        return Finding(
            "UnlikeSiblings",
            use.audience,
            use.first_active,
            f"It has used tokens for {use.audience} since {_time(use.first_active)}{_by(use.askers)}. None of the "
            f"{len(told)} other replicas that hold one has, in {_duration(limits.observed_seconds)} of use.",
        )
    return None


def _after_end(use: TokenUses, instance: Instance) -> Finding | None:
    last = max(use.last_active, use.last_refused)
    if instance.ended_at is None or last <= instance.ended_at + IN_FLIGHT_SECONDS:
        return None
    said = f" It was refused ({use.last_reason})." if last == use.last_refused else ""
    return Finding(
        "UsedAfterEnd",
        use.audience,
        last,
        f"A token for {use.audience} was used at {_time(last)}{_from(use.addresses, last)}{_by(use.askers)}. "
        f"The pod had ended by {_time(instance.ended_at)}.{said}",
    )


def _other_address(use: TokenUses, instance: Instance) -> Finding | None:
    if not instance.addresses or not instance.own_network:
        return None
    others = [
        one
        for one in use.addresses
        if _tells(one) and one.address not in instance.addresses and one.last >= instance.addresses_since
    ]
    if not others:
        return None
    other = min(others, key=lambda one: (one.first, one.address))
    at = max(other.first, instance.addresses_since)
    return Finding(
        "OtherAddress",
        use.audience,
        at,
        f"A token for {use.audience} was used at {_time(at)} from {other.address}{_by((other.asker,))}. "
        f"The pod has {' and '.join(sorted(instance.addresses))}.",
    )


def _two_addresses(use: TokenUses, instance: Instance) -> Finding | None:
    if not instance.own_network:
        return None
    by_first = sorted(filter(_tells, use.addresses), key=lambda one: (one.first, one.address))
    for index, later in enumerate(by_first):
        for earlier in by_first[:index]:
            if _is_ipv6(earlier.address) != _is_ipv6(later.address):
                continue  # a pod on both networks uses either
            if later.first + SKEW_SECONDS < earlier.last and earlier.first + SKEW_SECONDS < later.last:
                return Finding(
                    "TwoAddresses",
                    use.audience,
                    later.first,
                    f"Tokens for {use.audience} were used from {earlier.address} until {_time(earlier.last)}"
                    f"{_by((earlier.asker,))}, and since {_time(later.first)} from {later.address}"
                    f"{_by((later.asker,))}, too. One pod has one address at a time.",
                )
    return None


def _observed(replica: Replica, now: float, limits: Limits) -> bool:
    return bool(replica.first_used) and now - replica.first_used >= limits.observed_seconds


def _tells(use: AddressUse) -> bool:
    """A loopback address is that of a proxy beside the relying party, or of a pod that both run in."""
    return use.address != "::1" and not use.address.startswith("127.")


def _is_ipv6(address: str) -> bool:
    return ":" in address


def _from(addresses: Sequence[AddressUse], at: float) -> str:
    # Only if it was told of that very use: an older address would accuse somebody else.
    return next((f" from {one.address}" for one in addresses if one.last == at), "")


def _by(askers: Sequence[str]) -> str:
    return f" (told by {askers[-1]})" if askers and askers[-1] else ""


def _time(seconds: float) -> str:
    return clock.format_time(clock.from_seconds(seconds))


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"
