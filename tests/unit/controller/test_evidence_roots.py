"""The content of an EvidenceRoot is fetched when it is due, outlives a failed fetch, and is never another source's."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from countersign.api.evidence_root import (
    ConfigMapKeyRef,
    EvidenceRoot,
    EvidenceRootSpec,
    EvidenceRootStatus,
    TUFMetadata,
    TUFSource,
    content_of,
)
from countersign.api.meta import condition
from countersign.api.objects import CustomResource
from countersign.cluster.errors import ClusterError, UnreachableError
from countersign.cluster.events import ObjectReference, Urgency
from countersign.controller.evidence.evidence_roots import RootKeeper
from countersign.controller.evidence.fetching import Attempt, Fetcher, in_thread
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.store import StaleError
from countersign.controller.watches.watching import Sighting
from countersign.controller.watches.world import World
from countersign.signatures.roots.trust_root import public_good_root
from tests.unit.trust.build import evidence_root

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CONTENT = public_good_root().decode()
OTHER = json.dumps({**json.loads(CONTENT), "tlogs": []})
TUF = TUFSource(mirror="https://tuf.example.com", root="{}", refresh_seconds=3600)
REF = ConfigMapKeyRef(name="sigstore")


class Desk:
    """A keeper over a world in memory; what it writes is seen again, as by the watch."""

    def __init__(self, *roots: EvidenceRoot) -> None:
        self.world = World("countersign-system")
        self.now = NOW
        self.events: list[str] = []
        self.answers: list[Attempt] = []
        """What the source gives; the last one again and again."""
        self.asked: list[EvidenceRootStatus] = []
        self.writes = 0
        self.fail: ClusterError | StaleError | None = None
        self._version = 0
        self.see(*roots)
        self.start()

    def start(self) -> None:
        """A new process with the same world."""
        self.registry = CollectorRegistry()
        self.keeper = RootKeeper(self.world, self, self, self, ControllerMetrics(self.registry), clock=lambda: self.now)

    def see(self, *roots: EvidenceRoot) -> None:
        for one in roots:
            self._version += 1
            meta = msgspec.structs.replace(one.metadata, resource_version=str(self._version))
            self.world.see(Sighting(msgspec.structs.replace(one, metadata=meta), gone=False, listed=False))

    async def write_status(self, resource: CustomResource, status: msgspec.Struct) -> None:
        if self.fail is not None:
            raise self.fail
        self.writes += 1
        assert isinstance(resource, EvidenceRoot)
        assert isinstance(status, EvidenceRootStatus)
        self.see(msgspec.structs.replace(resource, status=status))

    async def fetch(self, spec: EvidenceRootSpec, held: EvidenceRootStatus) -> Attempt:
        self.asked.append(held)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def emit(self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str) -> None:
        assert (regarding.kind, regarding.name) == ("EvidenceRoot", "private")
        self.events.append(f"{urgency} {reason}")

    @property
    def root(self) -> EvidenceRoot:
        (found,) = self.world.rules.evidence_roots.values()
        return found

    def told(self, kind: str) -> tuple[str, str] | None:
        found = condition(self.root.status.conditions, kind)
        return None if found is None else (found.status, found.reason)

    def ages(self) -> dict[str, float]:
        return {
            sample.labels["root"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "countersign_evidence_root_age_seconds"
        }


def failed(reason: str = "MirrorUnreachable", **more: Any) -> Attempt:
    return Attempt(reason=reason, problem="it cannot be asked", **more)


def respecified(root: EvidenceRoot, **sigstore: Any) -> EvidenceRoot:
    changed = evidence_root(generation=root.metadata.generation + 1, **sigstore)
    return msgspec.structs.replace(root, spec=changed.spec, metadata=changed.metadata)


async def test_what_stands_in_the_object_is_judged_and_nobody_is_asked() -> None:
    desk = Desk(evidence_root(trusted_root=CONTENT))
    await desk.keeper.keep()
    status = desk.root.status
    assert (desk.told("Accepted"), desk.told("Ready"), desk.told("Refreshed")) == (
        ("True", "Accepted"),
        ("True", "Ready"),
        None,
    )
    assert status.hash.startswith("sha256:")
    assert (status.authorities > 0, status.logs > 0, status.trusted_root) == (True, True, "")
    assert status.earliest_expiry is not None
    assert status.observed_generation == 1
    assert desk.ages() == {}
    await desk.keeper.keep()
    assert desk.writes == 1


async def test_what_cannot_be_used_is_refused_in_words() -> None:
    desk = Desk(evidence_root(trusted_root="{"))
    await desk.keeper.keep()
    assert (desk.told("Accepted"), desk.told("Ready")) == (("False", "BadContent"), ("False", "BadContent"))
    assert desk.root.status.hash == ""


async def test_what_was_fetched_is_kept_and_asked_for_again_when_it_is_due() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    seen = TUFMetadata(root="r", timestamp="t")
    desk.answers = [Attempt(CONTENT, seen), Attempt(OTHER, TUFMetadata(root="r", timestamp="t2"))]
    await desk.keeper.keep()
    status = desk.root.status
    assert (content_of(desk.root), status.tuf, status.fetched_at) == (CONTENT, seen, "2026-03-01T12:00:00Z")
    assert (desk.told("Ready"), desk.told("Refreshed")) == (("True", "Ready"), ("True", "Refreshed"))
    desk.now += timedelta(seconds=3599)
    await desk.keeper.keep()
    assert len(desk.asked) == 1
    desk.now += timedelta(seconds=1)
    await desk.keeper.keep()
    assert content_of(desk.root) == OTHER
    assert desk.asked[1].tuf == seen, "the mirror is held to what it said before"
    assert desk.events == ["Normal ContentChanged"]


async def test_the_last_good_content_outlives_failures_which_are_told() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT), failed(tuf=TUFMetadata(root="r2"))]
    await desk.keeper.keep()
    good = desk.root.status
    desk.now += timedelta(hours=1)
    await desk.keeper.keep()
    status = desk.root.status
    assert (content_of(desk.root), status.hash, status.fetched_at) == (CONTENT, good.hash, good.fetched_at)
    assert status.last_attempt_at == "2026-03-01T13:00:00Z"
    assert status.tuf.root == "r2", "what was verified on the way counts"
    assert (desk.told("Ready"), desk.told("Refreshed")) == (("True", "Ready"), ("False", "MirrorUnreachable"))
    assert desk.events == ["Warning RefreshFailed"]


async def test_a_failed_fetch_is_tried_again_after_a_time_that_grows() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [failed()]
    waits = []
    for _ in range(9):
        before = len(desk.asked)
        start = desk.now
        await desk.keeper.keep()
        while len(desk.asked) == before:
            desk.now += timedelta(seconds=30)
            await desk.keeper.keep()
        waits.append((desk.now - start).total_seconds())
    assert waits[1:] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert desk.told("Ready") == ("False", "NotFetched")


async def test_a_new_leader_asks_no_sooner_than_the_old_one_would_have() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT)]
    await desk.keeper.keep()
    desk.start()
    desk.now += timedelta(minutes=30)
    await desk.keeper.keep()
    assert len(desk.asked) == 1
    assert desk.ages()["private"] == pytest.approx(time.time() - NOW.timestamp(), abs=60)
    desk.now += timedelta(minutes=30)
    await desk.keeper.keep()
    assert len(desk.asked) == 2
    desk.answers = [failed()]
    desk.now += timedelta(hours=1)
    await desk.keeper.keep()
    desk.start()
    await desk.keeper.keep()
    assert len(desk.asked) == 4, "after a failure it asks at once"


async def test_another_source_starts_from_nothing() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT, TUFMetadata(root="old")), failed()]
    await desk.keeper.keep()
    desk.see(respecified(desk.root, tuf=msgspec.structs.replace(TUF, root='{"another": true}')))
    await desk.keeper.keep()
    status = desk.root.status
    assert (content_of(desk.root), status.trusted_root, status.hash, status.fetched_at) == ("", "", "", None)
    assert desk.asked[1].tuf == TUFMetadata()
    assert desk.told("Ready") == ("False", "NotFetched")
    assert desk.ages() == {}


async def test_another_mirror_is_asked_at_once_and_held_to_what_the_old_one_said() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT, TUFMetadata(timestamp="7")), failed()]
    await desk.keeper.keep()
    desk.see(respecified(desk.root, tuf=msgspec.structs.replace(TUF, mirror="https://other.example.com")))
    await desk.keeper.keep()
    assert desk.asked[1].tuf.timestamp == "7"
    assert content_of(desk.root) == CONTENT


async def test_content_that_came_into_the_object_replaces_what_was_fetched() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT)]
    await desk.keeper.keep()
    desk.see(respecified(desk.root, trusted_root=OTHER))
    await desk.keeper.keep()
    status = desk.root.status
    assert (content_of(desk.root), status.trusted_root, status.source, status.fetched_at) == (OTHER, "", "", None)
    assert (desk.told("Refreshed"), desk.ages()) == (None, {})
    desk.now += timedelta(days=2)
    await desk.keeper.keep()
    assert len(desk.asked) == 1


async def test_a_spec_at_fault_is_not_accepted() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [failed("BadInitialRoot", accepted=False)]
    await desk.keeper.keep()
    assert desk.told("Accepted") == ("False", "BadInitialRoot")


async def test_a_config_map_is_looked_at_often_and_written_about_seldom() -> None:
    desk = Desk(evidence_root(config_map_ref=REF))
    desk.answers = [Attempt(CONTENT)]
    for _ in range(5):
        await desk.keeper.keep()
        desk.now += timedelta(seconds=30)
    assert (len(desk.asked), desk.writes) == (5, 1)
    desk.answers = [failed("ConfigMapMissing")]
    for _ in range(5):
        await desk.keeper.keep()
        desk.now += timedelta(seconds=30)
    assert (len(desk.asked), desk.writes, desk.events) == (10, 2, ["Warning RefreshFailed"])
    assert content_of(desk.root) == CONTENT
    desk.answers = [Attempt(OTHER)]
    await desk.keeper.keep()
    assert (content_of(desk.root), desk.told("Refreshed")) == (OTHER, ("True", "Refreshed"))


async def test_what_somebody_else_wrote_into_the_status_is_put_right() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT)]
    await desk.keeper.keep()
    forged = msgspec.structs.replace(desk.root.status, trusted_root=OTHER)
    desk.see(msgspec.structs.replace(desk.root, status=forged))
    await desk.keeper.keep()
    assert content_of(desk.root) == CONTENT


async def test_one_that_is_gone_is_forgotten_and_a_status_that_cannot_be_written_is_tried_again() -> None:
    desk = Desk(evidence_root(tuf=TUF))
    desk.answers = [Attempt(CONTENT)]
    desk.fail = UnreachableError("no API server")
    with pytest.raises(ClusterError):
        await desk.keeper.keep()
    desk.fail = None
    await desk.keeper.keep()
    assert desk.told("Ready") == ("True", "Ready")
    assert list(desk.ages()) == ["private"]
    desk.world.vanished(EvidenceRoot, desk.world.uids(EvidenceRoot), set())
    await desk.keeper.keep()
    assert desk.ages() == {}


class Maps:
    def __init__(self, **maps: dict[str, str]) -> None:
        self.maps = maps
        self.fail: ClusterError | None = None

    async def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        assert namespace == "ours"
        if self.fail:
            raise self.fail
        return self.maps.get(name)


async def test_a_config_map_gives_its_text_or_a_reason() -> None:
    maps = Maps(sigstore={"trusted_root.json": CONTENT}, empty={}, broken={"trusted_root.json": "{}"})
    fetcher = Fetcher(maps, "ours")

    async def fetch(name: str) -> Attempt:
        return await fetcher.fetch(evidence_root(config_map_ref=ConfigMapKeyRef(name=name)).spec, EvidenceRootStatus())

    assert (await fetch("sigstore")).content == CONTENT
    for name, reason in (("gone", "ConfigMapMissing"), ("empty", "KeyMissing"), ("broken", "BadContent")):
        found = await fetch(name)
        assert (found.content, found.reason) == ("", reason)
        assert found.problem
    maps.fail = UnreachableError("no API server")
    assert (await fetch("sigstore")).reason == "ConfigMapNotRead"


async def test_work_in_a_thread_gives_its_result_or_its_error_and_nobody_has_to_wait_for_it() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
    gate = threading.Event()
    waiting = asyncio.create_task(in_thread(gate.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
