"""What the gate knows: whole before it judges, and never less strict because something cannot be read."""

from datetime import UTC, datetime

from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.pause import AdmissionPause
from countersign.api.policy import ClusterTrustPolicySpec, TrustPolicySpec
from countersign.api.revocation import Revocation
from countersign.cluster.cache import Key, WatchCache
from countersign.gate.state import Caches, GateState
from countersign.signatures.roots.trust_root import public_good_root
from countersign.trust.policies.policy import DEFAULT_ROOT, NamespaceFacts, Policy, PolicyRef
from tests.unit.trust.build import evidence_root, exception, pause


class Setup:
    def __init__(self) -> None:
        self.now = 1000.0
        clock = lambda: self.now  # noqa: E731
        self.cluster_policies: WatchCache[Policy] = WatchCache(clock)
        self.policies: WatchCache[Policy] = WatchCache(clock)
        self.audiences: WatchCache[ProtectedAudience] = WatchCache(clock)
        self.revocations: WatchCache[Revocation] = WatchCache(clock)
        self.exceptions: WatchCache[TrustException] = WatchCache(clock)
        self.pauses: WatchCache[AdmissionPause] = WatchCache(clock)
        self.evidence_roots: WatchCache[EvidenceRoot] = WatchCache(clock)
        self.namespaces: WatchCache[NamespaceFacts] = WatchCache(clock)
        self.looked_up: list[str] = []
        self.state = GateState(
            Caches(
                cluster_policies=self.cluster_policies,
                policies=self.policies,
                audiences=self.audiences,
                revocations=self.revocations,
                exceptions=self.exceptions,
                pauses=self.pauses,
                evidence_roots=self.evidence_roots,
                namespaces=self.namespaces,
            ),
            self.lookup,
            system_namespace="ours",
            clock=clock,
        )

    async def lookup(self, name: str, within: float) -> NamespaceFacts | None:
        self.looked_up.append(name)
        return NamespaceFacts(name, {"live": "yes"}) if name != "gone" else None


def cluster_policy(name: str, generation: int = 1) -> Policy:
    spec = ClusterTrustPolicySpec(owner="o", mode="Enforce")
    return Policy(ref=PolicyRef("ClusterTrustPolicy", "", name, f"u-{name}", generation), spec=spec, created="")


def own_policy(namespace: str, name: str) -> Policy:
    spec = TrustPolicySpec(owner="o", mode="Enforce")
    return Policy(ref=PolicyRef("TrustPolicy", namespace, name, f"u-{name}", 1), spec=spec, created="")


def test_it_starts_when_every_kind_has_been_listed() -> None:
    setup = Setup()
    assert setup.state.starting() == (
        "not listed yet: ClusterTrustPolicy, TrustPolicy, ProtectedAudience, Revocation, TrustException, "
        "AdmissionPause, EvidenceRoot, Namespace"
    )
    orders = (setup.revocations, setup.exceptions, setup.pauses)
    for cache in (setup.cluster_policies, setup.policies, setup.audiences, *orders, setup.evidence_roots):
        cache.synced.set()
    assert setup.state.starting() == "not listed yet: Namespace"
    setup.namespaces.synced.set()
    assert setup.state.starting() == ""


def test_its_age_is_that_of_the_most_silent_watch() -> None:
    setup = Setup()
    orders = (setup.revocations, setup.exceptions, setup.pauses)
    rules = (setup.cluster_policies, setup.policies, setup.audiences, setup.evidence_roots)
    for cache in (*orders, *rules, setup.namespaces):
        setup.now += 10
        cache.touch()
    setup.now += 5
    assert setup.state.age() == 75


def test_a_snapshot_is_made_once_for_many_changes_and_anew_after_each() -> None:
    setup = Setup()
    for number in range(3):
        setup.cluster_policies.put(Key("", f"p{number}"), f"u{number}", "1", cluster_policy(f"p{number}"))
    first = setup.state.snapshot
    assert {policy.ref.name for policy in first.policies} == {"p0", "p1", "p2"}
    assert first is setup.state.snapshot
    assert first.system_namespace == "ours"
    setup.cluster_policies.remove(Key("", "p0"))
    assert {policy.ref.name for policy in setup.state.snapshot.policies} == {"p1", "p2"}


def test_a_policy_that_becomes_unreadable_stays_in_force_as_it_was() -> None:
    setup = Setup()
    setup.cluster_policies.put(Key("", "p"), "u", "1", cluster_policy("p"))
    setup.cluster_policies.reject(Key("", "p"), "mode: unknown value")
    assert [policy.ref.name for policy in setup.state.snapshot.policies] == ["p"]
    assert setup.state.unreadable("shop") == ""
    setup.cluster_policies.put(Key("", "p"), "u", "3", cluster_policy("p", 3))
    assert [policy.ref.generation for policy in setup.state.snapshot.policies] == [3]
    setup.cluster_policies.reject(Key("", "p"), "mode: unknown value")
    setup.cluster_policies.remove(Key("", "p"))
    assert setup.state.snapshot.policies == ()


def test_what_was_never_readable_is_named_where_it_may_matter() -> None:
    setup = Setup()
    setup.policies.reject(Key("shop", "p"), "bad")
    assert setup.state.unreadable("shop") == "TrustPolicy shop/p"
    assert setup.state.unreadable("other") == ""
    setup.revocations.reject(Key("ours", "r"), "bad")
    assert setup.state.unreadable("other") == "Revocation ours/r"
    setup.cluster_policies.reject(Key("", "c"), "bad")
    assert setup.state.unreadable("other") == "ClusterTrustPolicy c"


async def test_a_namespace_that_the_watch_has_not_seen_is_read_live() -> None:
    setup = Setup()
    setup.namespaces.put(Key("", "shop"), "u", "1", NamespaceFacts("shop", {"team": "a"}))
    assert await setup.state.namespace("shop", 1.0) == NamespaceFacts("shop", {"team": "a"})
    assert setup.looked_up == []
    assert await setup.state.namespace("new", 1.0) == NamespaceFacts("new", {"live": "yes"})
    assert await setup.state.namespace("gone", 1.0) is None
    assert setup.looked_up == ["new", "gone"]


def test_a_pause_is_known_from_its_first_sight_to_its_end() -> None:
    setup = Setup()
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert setup.state.paused(now) is None
    setup.pauses.put(Key("", "old"), "u-old", "1", pause("old", expires="2026-03-01T11:59:00Z"))
    assert setup.state.paused(now) is None
    setup.pauses.put(Key("", "new"), "u-new", "2", pause("new"))
    found = setup.state.paused(now)
    assert found is not None
    assert found.name == "new"
    assert setup.state.paused(found.ends) is None
    longer = pause("new", expires="2026-03-01T14:00:00Z")
    setup.pauses.put(Key("", "new"), "u-new", "3", longer)
    assert setup.state.paused(found.ends) is not None
    setup.pauses.remove(Key("", "new"))
    assert setup.state.paused(now) is None


def test_evidence_roots_come_with_the_snapshot_and_their_contents_beside_it() -> None:
    setup = Setup()
    content = public_good_root().decode()
    assert setup.state.snapshot.roots[DEFAULT_ROOT].anchors
    assert setup.state.content("private") is None
    setup.evidence_roots.put(Key("", "private"), "u-1", "1", evidence_root(trusted_root=content))
    facts = setup.state.snapshot.roots["private"]
    assert setup.state.content("private") == (facts.hash, content.encode())
    setup.evidence_roots.put(Key("", "private"), "u-1", "2", evidence_root(trusted_root="{"))
    assert setup.state.snapshot.roots["private"].problem
    setup.evidence_roots.remove(Key("", "private"))
    assert "private" not in setup.state.snapshot.roots


def test_an_evidence_root_that_cannot_be_read_is_not_replaced_by_the_built_in_one() -> None:
    setup = Setup()
    assert not setup.state.snapshot.roots[DEFAULT_ROOT].problem
    setup.evidence_roots.reject(Key("", DEFAULT_ROOT), "from a newer release")
    assert setup.state.snapshot.roots[DEFAULT_ROOT].problem
    assert setup.state.content(DEFAULT_ROOT) is None
    setup.evidence_roots.remove(Key("", DEFAULT_ROOT))
    assert not setup.state.snapshot.roots[DEFAULT_ROOT].problem


def test_an_exception_that_becomes_unreadable_waives_nothing_any_more() -> None:
    setup = Setup()
    setup.exceptions.put(Key("", "legacy"), "u-1", "1", exception())
    assert [one.metadata.name for one in setup.state.snapshot.exceptions] == ["legacy"]
    setup.exceptions.reject(Key("", "legacy"), "unknown member")
    assert setup.state.snapshot.exceptions == ()
    assert setup.state.unreadable("payments") == ""
