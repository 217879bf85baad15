"""Misuse: found where it can be told, and nowhere else."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from countersign.access.misuse import (
    IN_FLIGHT_SECONDS,
    SKEW_SECONDS,
    Finding,
    Instance,
    Limits,
    Replica,
    findings,
    still_counts,
    unlike_siblings,
)
from countersign.access.uses import together
from countersign.api.audience import SourceAddresses
from countersign.api.verifier_calls import TokenUses
from tests.unit.access import cases
from tests.unit.verifier.answers import START, Seen, answered

BEGIN = START.timestamp()
OWN = ("10.0.0.7", "fd00::7")
OTHERS = ("10.0.0.9", "fd00::9", "192.0.2.1")
Use = tuple[int, int, str, bool]
"""Verifier, time, address, accepted."""

uses = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 3000), st.sampled_from(["", *OWN, *OTHERS, "127.0.0.1"]), st.booleans()
    ),
    min_size=1,
    max_size=25,
)
worths = st.sampled_from(["Ignored", "Steady", "Direct"])
instances = st.builds(
    Instance,
    ended_at=st.none() | st.integers(0, 3000).map(lambda seconds: BEGIN + seconds),
    addresses=st.sampled_from([frozenset(), frozenset(OWN), frozenset(OWN[:1])]),
    addresses_since=st.sampled_from([0.0, BEGIN + 1000]),
    own_network=st.booleans(),
)


def seen(found: list[Use]) -> TokenUses:
    verifiers: dict[int, Seen] = {}
    for which, at, address, accepted in sorted(found, key=lambda one: one[1]):
        reason: Any = "Active" if accepted else "GrantRevoked"
        verifiers.setdefault(which, Seen()).at(at, answered(reason, address=address))
    return together(one.one() for one in verifiers.values())


def found(given_uses: list[Use], instance: Instance, worth: SourceAddresses) -> dict[str, Finding]:
    return {one.kind: one for one in findings([seen(given_uses)], instance, {cases.AUDIENCE: worth})}


@given(uses, instances, worths)
def test_it_does_not_matter_which_verifier_saw_it(
    given_uses: list[Use], instance: Instance, worth: SourceAddresses
) -> None:
    alone = [(0, at, address, accepted) for _, at, address, accepted in given_uses]
    assert found(given_uses, instance, worth).keys() == found(alone, instance, worth).keys()


@given(uses, instances)
def test_of_addresses_that_are_worth_nothing_nothing_follows(given_uses: list[Use], instance: Instance) -> None:
    assert found(given_uses, instance, "Ignored").keys() <= {"UsedAfterEnd"}
    assert findings([seen(given_uses)], instance._replace(ended_at=None), {}) == ()


@given(uses, instances, worths)
def test_a_pod_without_an_address_of_its_own_has_no_finding_about_addresses(
    given_uses: list[Use], instance: Instance, worth: SourceAddresses
) -> None:
    assert found(given_uses, instance._replace(own_network=False), worth).keys() <= {"UsedAfterEnd"}
    assert "OtherAddress" not in found(given_uses, instance._replace(addresses=frozenset()), worth)


@given(uses, instances, worths)
def test_another_address_is_one_that_was_told_and_that_the_pod_never_had(
    given_uses: list[Use], instance: Instance, worth: SourceAddresses
) -> None:
    told = {
        address
        for _, at, address, _ in given_uses
        if address in (*OWN, *OTHERS) and address not in instance.addresses and BEGIN + at >= instance.addresses_since
    }
    expected = bool(told) and worth == "Direct" and instance.own_network and bool(instance.addresses)
    finding = found(given_uses, instance, worth).get("OtherAddress")
    assert (finding is not None) == expected
    if finding is not None:
        assert any(f"from {address} " in finding.message for address in told)
        assert all(address in finding.message for address in instance.addresses)


@given(uses, instances, worths)
def test_used_after_the_end_is_used_after_the_end_and_a_while(
    given_uses: list[Use], instance: Instance, worth: SourceAddresses
) -> None:
    last = max(at for _, at, _, _ in given_uses)
    expected = instance.ended_at is not None and BEGIN + last > instance.ended_at + IN_FLIGHT_SECONDS
    assert ("UsedAfterEnd" in found(given_uses, instance, worth)) == expected


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1000)), min_size=1), st.lists(st.integers(0, 1000)))
def test_one_address_after_the_other_is_a_pod_that_moved(before: list[tuple[int, int]], after: list[int]) -> None:
    handover = max(at for _, at in before)
    moved: list[Use] = [(which, at, "10.0.0.7", True) for which, at in before]
    moved += [(0, handover + at, "10.0.0.9", True) for at in after]
    assert found(moved, Instance(), "Steady") == {}


@given(uses)
def test_two_addresses_in_turn_are_two_holders(given_uses: list[Use]) -> None:
    spans: dict[str, tuple[int, int]] = {}
    for _, at, address, _ in given_uses:
        if address and not address.startswith("127."):
            first, last = spans.get(address, (at, at))
            spans[address] = (min(first, at), max(last, at))
    expected = any(
        (":" in one) == (":" in other)
        and first + SKEW_SECONDS < spans[other][1]
        and spans[other][0] + SKEW_SECONDS < last
        for one, (first, last) in spans.items()
        for other in spans
        if other != one
    )
    assert ("TwoAddresses" in found(given_uses, Instance(), "Steady")) == expected


@given(uses, uses, instances, worths)
def test_more_uses_take_no_finding_back(
    given_uses: list[Use], more: list[Use], instance: Instance, worth: SourceAddresses
) -> None:
    assert found(given_uses, instance, worth).keys() <= found(given_uses + more, instance, worth).keys()


@given(uses, instances, worths)
def test_what_is_found_says_what_and_when_within_bounds(
    given_uses: list[Use], instance: Instance, worth: SourceAddresses
) -> None:
    for finding in found(given_uses, instance, worth).values():
        assert cases.AUDIENCE in finding.message
        assert len(finding.message) <= 1024
        assert BEGIN <= finding.at <= BEGIN + 3000
        assert finding.kind == "UsedAfterEnd" or still_counts(finding.kind, worth)
        assert not still_counts(finding.kind, "Ignored")


# Replicas

NOW = BEGIN + 10_000
LIMITS = Limits()
IMAGES = (("app", "sha256:a"),)
AUDIENCES = ("ledger.example.com", "vault.example.com")


def replicas(uid: str = "") -> st.SearchStrategy[Replica]:
    return st.builds(
        Replica,
        uid=st.just(uid) if uid else st.uuids().map(str),
        live=st.booleans(),
        images=st.sampled_from([IMAGES, (("app", "sha256:b"),)]),
        granted=st.just(frozenset(AUDIENCES)) | st.just(frozenset(AUDIENCES[:1])),
        used=st.sets(st.sampled_from(AUDIENCES)).map(frozenset),
        first_used=st.sampled_from([0.0, NOW - 7200, NOW - 60]),
    )


@given(replicas("this"), st.sampled_from([60, 601, 5000]), st.lists(replicas(), max_size=5))
def test_a_replica_is_unlike_others_only_where_enough_of_them_could_tell(
    this: Replica, ago: int, siblings: list[Replica]
) -> None:
    (vault,) = [TokenUses(pod_uid="this", audience=AUDIENCES[1], active=1, first_active=NOW - ago, last_active=NOW - 1)]
    finding = unlike_siblings(this, [vault], [this, *siblings], NOW, LIMITS)
    alike = [one for one in siblings if one.images == this.images]
    witnesses = [
        one
        for one in alike
        if one.live and AUDIENCES[1] in one.granted and one.first_used and NOW - one.first_used >= 3600
    ]
    expected = (
        ago >= LIMITS.settled_seconds
        and bool(this.first_used)
        and NOW - this.first_used >= LIMITS.observed_seconds
        and len(witnesses) >= LIMITS.siblings
        and not any(AUDIENCES[1] in one.used for one in alike)
    )
    assert (finding is not None) == expected


@given(replicas("this"), st.lists(replicas(), max_size=5))
def test_an_audience_that_was_only_refused_is_not_used(this: Replica, siblings: list[Replica]) -> None:
    refused = TokenUses(
        pod_uid="this", audience=AUDIENCES[1], refused={"AudienceNotGranted": 3}, last_refused=NOW - 5000
    )
    assert unlike_siblings(this, [refused], siblings, NOW, LIMITS) is None


@given(replicas("this"), st.lists(replicas(), min_size=3, max_size=5))
def test_one_sibling_that_does_the_same_is_enough_for_silence(this: Replica, siblings: list[Replica]) -> None:
    assume(this.first_used)
    use = TokenUses(pod_uid="this", audience=AUDIENCES[1], active=1, first_active=NOW - 5000, last_active=NOW - 1)
    twin = siblings[0]._replace(images=this.images, used=frozenset(AUDIENCES), live=False)
    assert unlike_siblings(this, [use], [*siblings, twin], NOW, LIMITS) is None
