"""Evidence of running pods is looked at again: each image once, within the rate, each namespace in its turn; and no
answer, or one that is not definite, changes nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from countersign.api.pod import Pod
from countersign.controller.evidence.pacing import UNANSWERED_SECONDS, Pace
from countersign.controller.evidence.reverified import SOON_SECONDS, UNKNOWN_SECONDS, Reverified
from countersign.controller.evidence.reverifying import Reverifier
from countersign.controller.evidence.scanning import Scanner
from countersign.controller.metrics import ControllerMetrics
from countersign.grants.impact import Limits
from countersign.trust.evidence.facts import Attestation, ImageFacts
from countersign.trust.evidence.needs import EvidenceNeed
from countersign.trust.evidence.reverification import (
    MAX_KEPT,
    EvidenceAnswer,
    EvidenceQuestion,
    Inquiry,
    grown,
)
from countersign.trust.policies.compiled import compiled
from countersign.trust.policies.policy import DEFAULT_ROOT, Policy
from tests.unit.controller.cluster import Cluster
from tests.unit.grants import scans
from tests.unit.grants.build import BORN
from tests.unit.grants.scans import FIRST, MAX_AGE, asking
from tests.unit.trust.build import NAMESPACE, PINNED, REPOSITORY, snapshot

END = FIRST + MAX_AGE + 1
WITHDRAWN = ("Suspended", "EvidenceWithdrawn")


class Scene:
    """A cluster whose controller looks again, and gates that answer as told."""

    def __init__(self, policy: Policy | None = None, *, rate: float = 2.0, limits: Limits | None = None) -> None:
        self.cluster = Cluster(policy or asking("Latest"), **({"limits": limits} if limits else {}))
        root = self.cluster.world.rules.known_roots()[DEFAULT_ROOT]
        self.root = root
        self.anchor = min(one for one in root.anchors if root.holds([one], int(BORN.timestamp())))
        self.asked: list[EvidenceQuestion] = []
        self.answer: ImageFacts | None = None
        """None: the registry cannot tell."""
        self.silent = False
        self.requests = 4
        self.requeued: list[str] = []
        self.everybody = 0
        self.pace = Pace(rate, monotonic=self.time)
        self.start()

    def start(self) -> None:
        self.metrics = ControllerMetrics(CollectorRegistry())
        self.reverifier = Reverifier(
            self.cluster.world, self.cluster.judging, self.cluster.reverified, self._ask,
            pace=self.pace, metrics=self.metrics, refresh=3600.0,
            requeue=self.requeued.append, everybody=self._everybody,
        )  # fmt: skip

    def time(self) -> float:
        return (self.cluster.now - BORN).total_seconds()

    def later(self, seconds: float) -> None:
        self.cluster.now = BORN + timedelta(seconds=seconds)

    def scan(self, signed: float = FIRST, *, clean: bool = True, by: int = 2) -> Attestation:
        return scans.scan(signed, clean=clean, anchor=self.anchor, by=by)

    def facts(self, *several: Attestation) -> ImageFacts:
        return scans.scanned(*(several or (self.scan(),)), root=self.root)

    async def admit(self, *uids: str) -> None:
        for uid in uids:
            self.cluster.admit(uid, found=self.facts())
        await self.cluster.survey()

    async def look(self) -> None:
        """Put one question, and work on whom the answer is about."""
        self.requeued.clear()
        await self.reverifier.ask_next()
        for uid in self.requeued:
            await self.cluster.settle(uid)

    async def _ask(self, question: EvidenceQuestion) -> EvidenceAnswer | None:
        self.asked.append(question)
        if self.silent:
            return None
        if self.answer is None:
            return EvidenceAnswer(reason="Timeout", registry_requests=self.requests)
        return EvidenceAnswer(facts=self.answer, registry_requests=self.requests)

    def _everybody(self) -> None:
        self.everybody += 1


async def test_replicas_of_one_image_put_one_question() -> None:
    scene = Scene()
    await scene.admit("a", "b", "c")
    assert len(scene.cluster.reverified) == 1
    scene.answer = scene.facts()
    await scene.look()
    assert len(scene.asked) == 1
    assert scene.requeued == ["a", "b", "c"], "each hears of it"
    assert scene.asked[0].inquiry.namespace == NAMESPACE
    assert scene.asked[0].max_age_seconds <= 60, "a look that finds an hour-old memory is none"


async def test_a_policy_that_asks_for_signatures_only_costs_no_question() -> None:
    scene = Scene(asking("Any", max_age=None))
    await scene.admit("a")
    assert len(scene.cluster.reverified) == 0


async def test_a_later_scan_that_fails_suspends_every_replica_and_a_good_one_restores_them() -> None:
    scene = Scene()
    await scene.admit("a", "b")
    scene.answer = scene.facts(scene.scan(), scene.scan(100, clean=False))
    scene.later(200)
    await scene.look()
    assert [scene.cluster.state(uid) for uid in "ab"] == [WITHDRAWN] * 2
    assert scene.cluster.withdrawn == ["a", "b"]
    scene.later(200 + SOON_SECONDS + 1)
    scene.answer = scene.facts(scene.scan(), scene.scan(100, clean=False), scene.scan(210))
    await scene.look()
    assert [scene.cluster.state(uid) for uid in "ab"] == [("Active", "QualifiesAgain")] * 2


async def test_a_registry_cannot_take_back_what_it_has_shown() -> None:
    scene = Scene()
    await scene.admit("a")
    scene.answer = scene.facts(scene.scan(), scene.scan(100, clean=False))
    scene.later(200)
    await scene.look()
    scene.answer = scene.facts()
    scene.later(4000)
    await scene.look()
    assert scene.cluster.state("a") == WITHDRAWN


@pytest.mark.parametrize("silent", [True, False])
async def test_no_answer_changes_nothing(silent: bool) -> None:
    scene = Scene()
    await scene.admit("a")
    writes = scene.cluster.store.writes
    scene.silent = silent
    await scene.look()
    assert scene.cluster.state("a") == ("Active", "Admitted")
    assert scene.cluster.store.writes == writes
    assert scene.requeued == []


async def test_what_is_withdrawn_stays_so_in_an_outage_and_under_another_controller_and_is_asked_about_first() -> None:
    scene = Scene()
    await scene.admit("a")
    scene.answer = scene.facts(scene.scan(), scene.scan(100, clean=False))
    scene.later(200)
    await scene.look()
    scene.answer = None
    scene.later(300)
    await scene.look()
    assert scene.cluster.state("a") == WITHDRAWN
    await scene.cluster.restart()
    scene.start()
    assert scene.cluster.state("a") == WITHDRAWN
    scene.cluster.admit("b", found=scene.facts(), image=PINNED.replace(":1.2", ":1.3"))
    await scene.cluster.survey()
    await scene.look()
    assert scene.cluster.state("a") == WITHDRAWN, "the registry cannot tell"
    scene.later(300 + UNKNOWN_SECONDS + 1)
    scene.answer = scene.facts(scene.scan(), scene.scan(100, clean=False), scene.scan(350))
    await scene.look()
    assert scene.cluster.state("a") == ("Active", "QualifiesAgain")


async def test_too_old_takes_effect_at_its_moment_with_no_registry_and_no_gate() -> None:
    scene = Scene(rate=0)
    await scene.admit("a")
    assert scene.cluster.later["a"] == pytest.approx(END - MAX_AGE // 10 - 1)
    scene.later(END - MAX_AGE // 10)
    await scene.cluster.settle("a")
    assert scene.cluster.state("a") == ("Active", "Admitted")
    assert scene.cluster.later["a"] == pytest.approx(MAX_AGE // 10)
    scene.later(END)
    await scene.cluster.settle("a")
    assert scene.cluster.state("a") == WITHDRAWN
    assert scene.asked == []


async def test_a_controller_that_restarts_does_not_suspend_what_was_attested_anew() -> None:
    scene = Scene()
    await scene.admit("a")
    scene.later(2000)
    scene.answer = scene.facts(scene.scan(), scene.scan(1900))
    await scene.look()
    scene.later(END + 5)
    await scene.cluster.restart()
    assert scene.cluster.state("a") == ("Active", "Admitted")


async def test_the_figures_of_policies_go_by_what_was_found_out_since() -> None:
    scene = Scene()
    await scene.admit("a")
    scanner = Scanner(
        scene.cluster.world, scene.cluster.judging, _nobody, scene.metrics, pace=Pace(0), refresh=3600.0,
        clock=lambda: scene.cluster.now, changed=lambda: None,
    )  # fmt: skip

    async def outcome() -> str:
        await scanner.judge_due()
        found = scene.cluster.world.pods["a"].outlook
        assert found is not None
        return found.words[0].outcome

    scene.later(END + 100)
    assert await outcome() == "wouldDeny"
    scene.answer = scene.facts(scene.scan(), scene.scan(END))
    await scene.look()
    assert await outcome() == "allowed"


async def _nobody(namespace: str, pod: Pod) -> None:
    raise AssertionError((namespace, pod.metadata.name))


async def test_the_brake_counts_what_nobody_has_looked_at_yet() -> None:
    """A policy that asks for younger attestations: else each look would suspend a few, one image after the other."""
    scene = Scene(asking(), limits=Limits(grants=1, share=0.1))
    await scene.admit("a", "b", "c")
    scene.later(300)
    scene.cluster.apply(asking(max_age=700))
    await scene.cluster.survey()
    (impact,) = scene.cluster.judging.impacts.values()
    assert (impact.losing, impact.held) == (3, True)
    scene.answer = scene.facts()
    await scene.look()
    assert [scene.cluster.state(uid) for uid in "abc"] == [("Active", "Admitted")] * 3
    scene.later(4000)
    scene.answer = scene.facts(scene.scan(), scene.scan(3900))
    await scene.look()
    assert scene.cluster.judging.impacts == {}
    assert scene.everybody == 1, "whoever was held is looked at again"


async def test_the_rate_is_kept_and_a_gate_that_is_away_left_alone() -> None:
    scene = Scene(rate=2.0)
    await scene.admit("a")
    scene.requests = 7
    await scene.look()
    assert scene.pace.delay() == pytest.approx(3.5)
    scene.later(1000)
    scene.silent = True
    await scene.look()
    assert scene.pace.delay() == pytest.approx(UNANSWERED_SECONDS)


async def test_pods_that_are_over_are_asked_about_no_more() -> None:
    scene = Scene()
    await scene.admit("a")
    scene.cluster.vanish("a")
    await scene.look()
    assert scene.asked == []
    assert len(scene.cluster.reverified) == 0


async def test_it_looks_by_itself() -> None:
    scene = Scene(rate=1000.0)
    scene.answer = scene.facts(scene.scan(), scene.scan(1, clean=False))
    await scene.admit("a")
    running = asyncio.create_task(scene.reverifier.run())
    try:
        async with asyncio.timeout(20):
            while not scene.requeued:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()


def inquiry(image: str, namespace: str = NAMESPACE) -> Inquiry:
    return Inquiry(namespace=namespace, service_account="api", need=EvidenceNeed(image=image))


class Table:
    """The entries, under a clock of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reverified = Reverified(refresh=3600.0, monotonic=lambda: self.now)

    def ask(self, uid: str, image: str, namespace: str = NAMESPACE) -> Inquiry:
        made = inquiry(image, namespace)
        self.reverified.found(uid, {image: made})
        return made

    def answer(self, asked: Inquiry, *, left: float | None = None, withdrawn: bool = False) -> None:
        entry = self.reverified.entry(asked)
        assert entry is not None
        self.reverified.answered(entry, scans.scanned())
        end = None if left is None else BORN + timedelta(seconds=left)
        for uid in list(entry.pods):
            self.reverified.judged(uid, withdrawn=withdrawn, too_old_at=end, now=BORN)

    def due_in(self) -> float:
        return self.reverified.until_next()


@pytest.mark.parametrize(
    ("left", "pause"), [(None, 3600), (86400, 3600), (3600, 1800), (60, 30), (10, SOON_SECONDS), (-5, SOON_SECONDS)]
)
def test_the_closer_an_end_the_sooner_the_next_look(left: float | None, pause: float) -> None:
    table = Table()
    table.answer(table.ask("a", "x"), left=left)
    assert table.due_in() == pytest.approx(pause)


def test_what_was_withdrawn_just_now_is_looked_at_soon_and_later_less_often() -> None:
    table = Table()
    asked = table.ask("a", "x")
    table.answer(asked, withdrawn=True)
    assert table.due_in() == SOON_SECONDS
    table.now = 1000
    table.answer(asked, withdrawn=True)
    assert table.due_in() == 500
    table.now = 100_000
    table.answer(asked, withdrawn=True)
    assert table.due_in() == 3600


def test_what_is_withdrawn_comes_before_what_is_well_and_that_by_its_end() -> None:
    table = Table()
    table.answer(table.ask("a", "well"), left=90_000)
    table.answer(table.ask("b", "ending"), left=8_000)
    table.answer(table.ask("c", "withdrawn"), withdrawn=True)
    table.now = 4000
    order = []
    for _ in range(3):
        asked = table.reverified.next()
        assert asked is not None
        order.append(asked.need.image)
        table.answer(asked)
    assert order == ["withdrawn", "ending", "well"]


def test_a_namespace_with_a_thousand_images_does_not_keep_another_from_its_turn() -> None:
    table = Table()
    for number in range(1000):
        table.answer(table.ask(f"many-{number}", f"many-{number}", "many"), withdrawn=True)
    table.answer(table.ask("one", "one", "small"), left=100_000)
    table.now = 4000
    turns = []
    for _ in range(2):
        asked = table.reverified.next()
        assert asked is not None
        turns.append(asked.namespace)
        table.answer(asked)
    assert sorted(turns) == ["many", "small"]


def test_strangers_push_out_nothing_that_counts() -> None:
    given = compiled(snapshot(asking()))
    mine = scans.scan(0)
    strangers = [scans.scan(1000 + number, by=3) for number in range(2 * MAX_KEPT)]
    kept = grown(None, scans.scanned(mine, *strangers), given, NAMESPACE)
    assert len(kept.attestations) == MAX_KEPT
    assert mine in kept.attestations


def test_answers_to_one_question_are_kept_together() -> None:
    given = compiled(snapshot(asking()))
    first = grown(None, scans.scanned(scans.scan(1)), given, NAMESPACE)
    both = grown(first, scans.scanned(scans.scan(2)), given, NAMESPACE)
    assert {one.vouch.proof for one in both.attestations} == {scans.scan(at).vouch.proof for at in (1, 2)}
    assert both.vouches == ()
    assert both.image == REPOSITORY


def test_a_question_survives_the_wire() -> None:
    question = EvidenceQuestion(inquiry=inquiry("registry.example.com/a@sha256:" + "a" * 64), max_age_seconds=60)
    assert msgspec.json.decode(msgspec.json.encode(question), type=EvidenceQuestion) == question
