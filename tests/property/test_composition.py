"""What holds for any policies together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from countersign.api.pod import Pod
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.verdicts.denial import MAX_MESSAGE, audit_annotations, message, warnings
from countersign.trust.verdicts.verdict import Verdict, judge
from tests.property.trust_strategies import audience_sets, evidence, pods, policies, policy_sets
from tests.unit.trust.build import NOW, subject

Evidence = dict[str, ImageFacts | Unverifiable]


class World:
    """One pod, its evidence, and a snapshot that may get one more policy."""

    def __init__(self, of: Pod, found: Evidence, snapshot: PolicySnapshot) -> None:
        self.of = of
        self.found = found
        self.snapshot = snapshot

    def verdict(self, *more: Policy) -> Verdict:
        snapshot = PolicySnapshot(policies=(*self.snapshot.policies, *more), audiences=self.snapshot.audiences)
        return judge(snapshot, subject(self.of), self.found, stage="mutate", now=NOW)

    def __repr__(self) -> str:
        return f"World({self.of!r}, {self.found!r}, {self.snapshot!r})"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    of = draw(pods)
    snapshot = PolicySnapshot(policies=tuple(draw(policy_sets())), audiences=tuple(draw(audience_sets())))
    return World(of, draw(evidence(of)), snapshot)


def denials(verdict: Verdict) -> set[tuple[str, str, str]]:
    """Who is told what. A pod-wide finding names the strictest policy of all, so its policy is left out."""
    return {
        (finding.code, finding.container, "" if finding.pod_wide or not finding.policy else finding.policy.uid)
        for finding in verdict.denials
    }


def without_clashes(verdict: Verdict) -> set[tuple[str, str, str]]:
    """Denials but for those about the place of a token in the pod: who wins a clash decides whose place counts."""
    return {denial for denial in denials(verdict) if denial[0] not in ("TokenClash", "TokenExposed")}


@given(worlds(), policies("extra", modes=st.sampled_from(["Audit", "Warn"])))
def test_an_audit_or_warn_policy_never_changes_whether_and_why_a_pod_is_denied(world: World, extra: Policy) -> None:
    before, after = world.verdict(), world.verdict(extra)
    assert without_clashes(before) == without_clashes(after)
    if not extra.spec.tokens:
        assert denials(before) == denials(after)
    assert denials(after) <= denials(before) or not before.governed


@given(worlds(), policies("extra"))
def test_no_further_policy_turns_a_denial_into_an_admission(world: World, extra: Policy) -> None:
    before, after = world.verdict(), world.verdict(extra)
    assert without_clashes(before) <= without_clashes(after)
    if not extra.spec.tokens:
        assert denials(before) <= denials(after)


@given(worlds(), policies("extra", cluster=False))
def test_a_namespaces_policy_widens_nothing(world: World, extra: Policy) -> None:
    """It takes no finding away, and changes no token of a cluster policy but by withholding it."""
    before, after = world.verdict(), world.verdict(extra)
    assert without_clashes(before) <= without_clashes(after)
    cluster = {(token.name, token.audience) for token in before.tokens if token.policy.kind == "ClusterTrustPolicy"}
    still = {(token.name, token.audience) for token in after.tokens if token.policy.kind == "ClusterTrustPolicy"}
    assert still <= cluster


@given(worlds(), policies("extra"))
def test_settings_only_become_stricter(world: World, extra: Policy) -> None:
    governed = bool(world.verdict().governed)
    before, after = world.verdict().settings, world.verdict(extra).settings
    order = ("Keep", "Shorten", "Remove")
    assert order.index(after.api_token) >= order.index(before.api_token)
    if governed:
        assert after.drain_seconds <= before.drain_seconds
        assert not (before.on_termination == "Immediate" and after.on_termination == "GracePeriod")


@given(worlds())
def test_a_denied_pod_has_no_token_and_a_token_has_a_policy_without_blocking_findings(world: World) -> None:
    verdict = world.verdict()
    if verdict.denials:
        assert verdict.tokens == ()
    blocked = {finding.policy for finding in verdict.findings if finding.blocks_identity}
    assert all(token.policy not in blocked for token in verdict.tokens)
    assert len({token.name for token in verdict.tokens}) == len(verdict.tokens)
    assert len({token.audience for token in verdict.tokens}) == len(verdict.tokens)
    variables = [token.env_var for token in verdict.tokens if token.env_var]
    assert len(set(variables)) == len(variables)


@given(worlds(), st.randoms())
def test_the_order_of_the_policies_does_not_matter(world: World, random: object) -> None:
    import random as library

    assert isinstance(random, library.Random)
    shuffled = list(world.snapshot.policies)
    random.shuffle(shuffled)
    given_otherwise = PolicySnapshot(policies=tuple(shuffled), audiences=world.snapshot.audiences)
    assert judge(given_otherwise, subject(world.of), world.found, stage="mutate", now=NOW) == world.verdict()


@given(worlds())
def test_what_is_told_is_bounded_and_printable(world: World) -> None:
    verdict = world.verdict()
    text = message(verdict)
    assert len(text) <= MAX_MESSAGE < 1000
    assert text.isprintable()
    assert bool(text) is bool(verdict.denials)
    if verdict.denials and not verdict.retry:
        assert text.startswith(f"{verdict.denials[0].code}: ")
    assert all(len(line) <= 256 and line.isprintable() for line in warnings(verdict))
    assert all(value.isprintable() for value in audit_annotations(verdict).values())
