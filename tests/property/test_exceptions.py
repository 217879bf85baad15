"""What holds for any TrustException beside any policies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from countersign.api.exception import TrustException, WaivableCheck
from countersign.api.pod import Pod
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.verdict import Verdict, judge
from tests.property.trust_strategies import audience_sets, evidence, pods, policy_sets
from tests.unit.trust.build import DIGEST, NAMESPACE, NOW, exception, fingerprint, policy_ref, revocation, subject

CHECKS = WaivableCheck.__args__  # type: ignore[attr-defined]


@st.composite
def exceptions(draw: st.DrawFn) -> TrustException:
    match: dict[str, Any] = draw(
        st.sampled_from([{"namespaces": (NAMESPACE,)}, {"images": ("r.io/pay/**",)}, {"digests": (DIGEST,)}])
    )
    names = draw(st.sets(st.sampled_from(["p0", "p1", "p2", "own", "extra"]), min_size=1))
    return exception(
        f"e{draw(st.integers(0, 3))}",
        *sorted(draw(st.sets(st.sampled_from(CHECKS), min_size=1))),
        policies=[policy_ref(name, draw(st.sampled_from(["", NAMESPACE]))) for name in sorted(names)],
        tokens=draw(st.sampled_from(["Withhold", "Issue"])),
        **match,
    )


class World:
    """One pod and its evidence, under policies with and without exceptions."""

    def __init__(self, of: Pod, found: dict[str, ImageFacts | Unverifiable], given: PolicySnapshot) -> None:
        self.of = of
        self.found = found
        self.given = given

    def verdict(self, *exceptions: TrustException, after: timedelta = timedelta(0), revocations: Any = ()) -> Verdict:
        given = PolicySnapshot(
            policies=self.given.policies,
            audiences=self.given.audiences,
            exceptions=exceptions,
            revocations=tuple(revocations),
        )
        return judge(given, subject(self.of), self.found, stage="mutate", now=NOW + after)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    of = draw(pods)
    given = PolicySnapshot(policies=tuple(draw(policy_sets())), audiences=tuple(draw(audience_sets())))
    return World(of, draw(evidence(of)), given)


def codes(verdict: Verdict) -> set[tuple[str, str, str]]:
    return {
        (finding.code, finding.container, "" if finding.pod_wide or not finding.policy else finding.policy.uid)
        for finding in verdict.findings
    }


sets = st.lists(exceptions(), min_size=1, max_size=3, unique_by=lambda one: one.metadata.name)


@given(worlds(), sets)
def test_an_exception_never_makes_a_pod_fail_that_passed(world: World, made: list[TrustException]) -> None:
    before, after = world.verdict(), world.verdict(*made)
    # A token that is given now may be exposed by a volume, which a pod without tokens cannot be blamed for.
    new = {finding.code for finding in after.denials} - {finding.code for finding in before.denials}
    assert new <= {"TokenExposed", "TokenClash"}
    if not before.denials:
        assert not after.denials
    assert {token.name for token in before.tokens} <= {token.name for token in after.tokens}


@given(worlds(), sets)
def test_every_finding_stays_to_be_seen(world: World, made: list[TrustException]) -> None:
    seen = codes(world.verdict(*made))
    assert {one for one in codes(world.verdict()) if one[0] not in ("TokenExposed", "TokenClash")} <= seen


@given(worlds(), sets)
def test_once_they_are_over_all_is_as_if_there_were_none(world: World, made: list[TrustException]) -> None:
    over = timedelta(minutes=30)
    assert world.verdict(*made, after=over) == world.verdict(after=over)


@given(worlds(), sets)
def test_withheld_tokens_stay_withheld(world: World, made: list[TrustException]) -> None:
    if all(one.spec.tokens == "Withhold" for one in made):
        assert world.verdict(*made).tokens == world.verdict().tokens


@given(worlds(), sets)
def test_no_exception_beats_a_revocation(world: World, made: list[TrustException]) -> None:
    digest = world.verdict(*made, revocations=[revocation(digest=DIGEST)])
    revoked = [f for f in digest.findings if f.code == "ImageRevoked"]
    assert all(finding.waiver is None and finding.blocks_identity for finding in revoked)
    if revoked:
        assert digest.tokens == ()
    key = fingerprint(1)
    by_key = world.verdict(*made, revocations=[revocation(key_fingerprint=key)])
    for finding in by_key.findings:
        facts = world.found.get(finding.image)
        if finding.code == "ImageUnsigned" and isinstance(facts, ImageFacts):
            signed_by_it = any(vouch.key_fingerprint == key for vouch in facts.vouches)
            assert finding.waiver is None or not signed_by_it
