"""Running pods are looked at in the background: what a receipt answers here, the rest by a gate, within a rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from countersign.api.gate_calls import OutlookAnswer, PolicyOutlook
from countersign.api.pod import Pod
from countersign.controller.evidence.pacing import UNANSWERED_SECONDS, Pace
from countersign.controller.evidence.scanning import UNKNOWN_SECONDS, Scanner
from countersign.controller.metrics import ControllerMetrics
from countersign.trust.verdicts.outlook import Outcome
from tests.unit.controller.cluster import GOOD, Cluster, resource_of
from tests.unit.grants.build import changed
from tests.unit.trust.build import cluster_policy, rule, token


class Scene:
    """A cluster, a scanner with a clock of its own, and a gate that answers as told."""

    def __init__(self, *, rate: float = 2.0) -> None:
        self.cluster = Cluster()
        self.time = 1000.0
        self.asked: list[str] = []
        self.outcome: Outcome | None = "allowed"
        self.requests = 5
        self.generation: int | None = None
        self.while_asking: Callable[[], None] = lambda: None
        self.grew = 0
        self.metrics = ControllerMetrics(CollectorRegistry())
        self.pace = Pace(rate, monotonic=lambda: self.time)
        self.scanner = Scanner(
            self.cluster.world, self.cluster.judging, self._answer, self.metrics,
            pace=self.pace, refresh=3600.0, clock=lambda: self.cluster.now,
            changed=self._grow, monotonic=lambda: self.time,
        )  # fmt: skip

    async def _answer(self, namespace: str, pod: Pod) -> OutlookAnswer | None:
        assert namespace == "payments"
        self.asked.append(pod.metadata.uid)
        self.while_asking()
        if self.outcome is None:
            return None
        (policy,) = self.cluster.world.rules.policies.values()
        generation = policy.metadata.generation if self.generation is None else self.generation
        reasons = ("ImageUnsigned",) if self.outcome == "wouldDeny" else ()
        word = PolicyOutlook(uid=GOOD.ref.uid, generation=generation, outcome=self.outcome, reasons=reasons)
        return OutlookAnswer(policies=(word,), registry_requests=self.requests)

    def _grow(self) -> None:
        self.grew += 1

    async def look(self) -> None:
        """One round: judge what is due, and ask about all that is left."""
        await self.scanner.judge_due()
        for _ in range(self.waiting):
            await self.scanner.ask_next()

    @property
    def waiting(self) -> int:
        return len(self.scanner._waiting)

    @property
    def not_before(self) -> float:
        return self.pace.delay()

    def words(self, uid: str) -> list[tuple[str, tuple[str, ...]]]:
        found = self.cluster.world.pods[uid].outlook
        return [(word.outcome, word.reasons) for word in found.words] if found else []


async def test_a_pod_with_a_receipt_costs_no_question() -> None:
    scene = Scene()
    scene.cluster.admit("well")
    await scene.cluster.survey()
    await scene.look()
    assert scene.words("well") == [("allowed", ())]
    assert scene.asked == []


async def test_a_change_that_its_receipt_answers_costs_none_either() -> None:
    scene = Scene()
    scene.cluster.admit("well")
    await scene.cluster.survey()
    await scene.look()
    scene.cluster.apply(cluster_policy(tokens=(token(),), images=(rule(globs=("other.example.com/**",)),)))
    await scene.cluster.survey()
    await scene.look()
    assert scene.words("well") == [("wouldDeny", ("ImageNotCovered",))]
    assert scene.asked == []


async def test_a_gate_is_asked_about_a_pod_from_before_the_policy() -> None:
    scene = Scene()
    scene.outcome = "wouldDeny"
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.scanner.judge_due()
    assert scene.words("old") == [("unknown", ("ImageUnverifiable",))]
    await scene.look()
    assert scene.words("old") == [("wouldDeny", ("ImageUnsigned",))]
    assert scene.asked == ["old"]
    assert scene.grew == 2


async def test_what_was_said_holds_until_it_is_to_be_refreshed() -> None:
    scene = Scene()
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    scene.time += 3599
    await scene.look()
    assert scene.asked == ["old"]
    scene.time += 2
    await scene.scanner.judge_due()
    assert scene.words("old") == [("allowed", ())], "what was said stands until it is said anew"
    await scene.look()
    assert scene.asked == ["old", "old"]


async def test_another_policy_elsewhere_asks_about_nobody_again() -> None:
    scene = Scene()
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    before = scene.cluster.world.rules.snapshot()
    elsewhere = cluster_policy("elsewhere", namespaces={"team": "others"})
    resource = resource_of(elsewhere)
    meta = msgspec.structs.replace(resource.metadata, resource_version=str(scene.cluster.version()))
    scene.cluster.see(msgspec.structs.replace(resource, metadata=meta))
    assert scene.cluster.world.rules.snapshot() is not before
    await scene.cluster.survey()
    await scene.look()
    assert scene.asked == ["old"]


async def test_a_change_of_its_policy_asks_again() -> None:
    scene = Scene()
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    scene.cluster.apply(cluster_policy(tokens=(token(),), mode="Audit"))
    await scene.cluster.survey()
    await scene.look()
    assert scene.asked == ["old", "old"]


async def test_the_next_question_waits_until_the_requests_are_within_the_rate() -> None:
    scene = Scene(rate=2.0)
    for uid in ("a", "b"):
        scene.cluster.slip_in(uid)
    await scene.cluster.survey()
    await scene.scanner.judge_due()
    scene.requests = 7
    await scene.scanner.ask_next()
    assert scene.not_before == pytest.approx(3.5)
    scene.requests, scene.time = 0, scene.time + 3.5
    await scene.scanner.ask_next()
    assert 0 < scene.not_before < 1, "a gate has other work, too"


async def test_off_means_that_nobody_is_asked() -> None:
    scene = Scene(rate=0)
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    assert scene.asked == []
    assert scene.words("old") == [("unknown", ("ImageUnverifiable",))]


async def test_a_gate_that_does_not_answer_is_asked_again_later() -> None:
    scene = Scene()
    scene.outcome = None
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    assert scene.waiting == 1
    assert scene.not_before == pytest.approx(UNANSWERED_SECONDS)


async def test_a_registry_that_cannot_tell_is_asked_again_soon() -> None:
    scene = Scene()
    scene.outcome = "unknown"
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    scene.time += UNKNOWN_SECONDS + 1
    scene.outcome = "allowed"
    await scene.look()
    assert scene.words("old") == [("allowed", ())]


async def test_an_answer_by_other_policies_does_not_count() -> None:
    scene = Scene()
    scene.generation = 77
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    assert scene.words("old") == [("unknown", ("ImageUnverifiable",))]
    assert scene.waiting == 1


async def test_an_answer_about_what_the_pod_was_before_does_not_count() -> None:
    scene = Scene()
    pod = scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.scanner.judge_due()

    def relabel() -> None:
        scene.cluster.store_pod(changed(pod, labels={"app": "other"}))

    scene.while_asking = relabel
    await scene.scanner.ask_next()
    assert scene.words("old") == []


async def test_pods_that_are_over_are_nobodys_business() -> None:
    scene = Scene()
    pod = scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.scanner.judge_due()
    scene.cluster.store_pod(changed(pod, phase="Succeeded"))
    await scene.scanner.ask_next()
    assert scene.asked == []
    await scene.look()
    assert scene.waiting == 0


async def test_a_pod_that_no_policy_governs_any_more_has_no_outlook() -> None:
    scene = Scene()
    scene.cluster.slip_in("old")
    await scene.cluster.survey()
    await scene.look()
    scene.cluster.delete_policy()
    await scene.cluster.survey()
    await scene.look()
    assert scene.words("old") == []
    assert scene.asked == ["old"]


async def test_it_looks_by_itself_and_is_woken_by_changes() -> None:
    scene = Scene()
    scene.requests = 0
    running = asyncio.create_task(scene.scanner.run())
    try:
        scene.cluster.slip_in("old")
        await scene.cluster.survey()
        scene.scanner.wake()
        async with asyncio.timeout(20):
            while scene.words("old") != [("allowed", ())]:
                scene.time += 1.0
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
