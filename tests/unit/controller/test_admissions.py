"""What gates count reaches the status of the policy, whoever comes and goes."""

from __future__ import annotations

import msgspec

from countersign.api.gate_calls import PolicyTally, TallyReport
from countersign.api.policy_status import AdmissionCounts, GateTally
from countersign.controller.calls.admissions import AdmissionCollector
from countersign.controller.watches.rules import AnyPolicyResource
from tests.unit.controller.cluster import GOOD, Cluster
from tests.unit.trust.build import cluster_policy


class Scene:
    """Gates that report what they are told to."""

    def __init__(self, *, publish: float = 0.0) -> None:
        self.cluster = Cluster()
        self.reports: list[TallyReport] = []
        self.grew = 0
        self.time = 1000.0
        self.publish = publish
        self.collector = self.restarted()

    def restarted(self) -> AdmissionCollector:
        return AdmissionCollector(
            self.cluster.world, self._ask, publish_seconds=self.publish, clock=lambda: self.cluster.now,
            changed=self._grow, monotonic=lambda: self.time,
        )  # fmt: skip

    async def _ask(self) -> list[TallyReport]:
        return self.reports

    def _grow(self) -> None:
        self.grew += 1

    def report(self, gate: str, allowed: int, would_deny: int = 0, *, generation: int = 1) -> TallyReport:
        tally = GateTally(gate=gate, allowed=allowed, would_deny=would_deny)
        return TallyReport(policies=(PolicyTally(uid=GOOD.ref.uid, generation=generation, tally=tally),))

    @property
    def policy(self) -> AnyPolicyResource:
        (found,) = self.cluster.world.rules.policies.values()
        return found

    def write(self) -> None:
        """The status is written, and comes back by the watch."""
        held = self.policy
        status = msgspec.structs.replace(held.status, admissions=self.collector.of(held))
        meta = msgspec.structs.replace(held.metadata, resource_version=str(self.cluster.version()))
        self.cluster.see(msgspec.structs.replace(held, metadata=meta, status=status))

    def counts(self) -> tuple[int, int]:
        found: AdmissionCounts = self.collector.of(self.policy)
        return found.allowed, found.would_deny


async def test_the_counts_of_all_gates_are_one_sum() -> None:
    scene = Scene()
    scene.reports = [scene.report("a", 3, 1), scene.report("b", 4)]
    await scene.collector.collect()
    assert scene.counts() == (7, 1)
    assert scene.grew == 1


async def test_nothing_new_is_nothing_to_write() -> None:
    scene = Scene()
    scene.reports = [scene.report("a", 3)]
    await scene.collector.collect()
    await scene.collector.collect()
    assert scene.grew == 1


async def test_gates_are_asked_often_and_statuses_change_seldom() -> None:
    scene = Scene(publish=60.0)
    scene.reports = [scene.report("a", 1)]
    await scene.collector.collect()
    assert (scene.counts(), scene.grew) == ((1, 0), 1)
    scene.time += 50
    scene.reports = [scene.report("a", 5)]
    await scene.collector.collect()
    assert (scene.counts(), scene.grew) == ((1, 0), 1)
    scene.time += 11
    scene.reports = []
    await scene.collector.collect()
    assert (scene.counts(), scene.grew) == ((5, 0), 2), "what a gate said before it ended"


async def test_a_gate_that_was_restarted_adds_to_what_it_had_counted() -> None:
    scene = Scene()
    scene.reports = [scene.report("a", 3)]
    await scene.collector.collect()
    scene.reports = [scene.report("b", 2)]
    await scene.collector.collect()
    assert scene.counts() == (5, 0)


async def test_a_controller_that_was_restarted_goes_on_from_the_status() -> None:
    scene = Scene()
    scene.reports = [scene.report("a", 3), scene.report("b", 2)]
    await scene.collector.collect()
    scene.write()
    scene.collector = scene.restarted()
    assert scene.counts() == (5, 0), "before it has asked anybody"
    scene.reports = [scene.report("b", 4)]
    await scene.collector.collect()
    assert scene.counts() == (7, 0)


async def test_what_another_controller_collected_meanwhile_is_not_lost() -> None:
    scene = Scene()
    scene.reports = [scene.report("a", 1)]
    await scene.collector.collect()
    mine, scene.collector = scene.collector, scene.restarted()
    scene.reports = [scene.report("a", 6)]
    await scene.collector.collect()
    scene.write()
    scene.collector, scene.reports = mine, []
    await scene.collector.collect()
    assert scene.counts() == (6, 0)


async def test_a_change_of_the_policy_begins_anew_and_says_since_when() -> None:
    scene = Scene()
    scene.reports = [scene.report("a", 3)]
    await scene.collector.collect()
    assert scene.collector.of(scene.policy).since == GOOD.created
    scene.write()
    scene.cluster.apply(cluster_policy(mode="Audit"))
    assert scene.counts() == (0, 0)
    assert scene.collector.of(scene.policy).since == "2026-03-01T12:00:01Z"
    await scene.collector.collect()
    assert scene.counts() == (0, 0), "counts of the generation before"
    scene.reports = [scene.report("a", 1, generation=2)]
    await scene.collector.collect()
    assert scene.counts() == (1, 0)


async def test_a_policy_that_is_gone_is_forgotten() -> None:
    scene = Scene()
    await scene.collector.collect()
    scene.cluster.delete_policy()
    await scene.collector.collect()
    assert scene.grew == 2
