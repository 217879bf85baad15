"""A pause that begins, ends or vanishes is acted upon and told, once each, whoever was away meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from countersign.api.meta import condition
from countersign.api.objects import CustomResource
from countersign.api.pause import AdmissionPause, AdmissionPauseStatus
from countersign.cluster.errors import ClusterError
from countersign.cluster.events import ObjectReference, Urgency
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.orders.pausing import PauseKeeper, pause_status
from countersign.controller.statuses.statuses import Registered
from countersign.controller.store import StaleError
from countersign.controller.watches.watching import Sighting
from countersign.controller.watches.world import World
from tests.unit.trust.build import pause

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
OPEN = Registered(True, paused=True)
SHUT = Registered(True)


class Desk:
    """A keeper over a world in memory; what it writes is seen again, as by the watch."""

    def __init__(self, *pauses: AdmissionPause) -> None:
        self.world = World("countersign-system")
        self.now = NOW
        self.registered = SHUT
        self.turned = 0
        self.events: list[str] = []
        self.fail: ClusterError | StaleError | None = None
        self.see(*pauses)
        self.start()

    def start(self) -> None:
        """A new process with the same world."""
        self.keeper = PauseKeeper(
            self.world, self, self, ControllerMetrics(CollectorRegistry()), registered=lambda: self.registered,
            clock=lambda: self.now, turned=self.turn,
        )  # fmt: skip

    def see(self, *pauses: AdmissionPause) -> None:
        for one in pauses:
            version = str(
                1 + max([int(p.metadata.resource_version) for p in self.world.rules.pauses.values()], default=0)
            )
            meta = msgspec.structs.replace(one.metadata, resource_version=version)
            self.world.see(Sighting(msgspec.structs.replace(one, metadata=meta), gone=False, listed=False))

    def turn(self) -> None:
        self.turned += 1

    async def write_status(self, resource: CustomResource, status: msgspec.Struct) -> None:
        if self.fail is not None:
            raise self.fail
        assert isinstance(resource, AdmissionPause)
        assert isinstance(status, AdmissionPauseStatus)
        self.see(msgspec.structs.replace(resource, status=status))

    def emit(self, regarding: ObjectReference, urgency: Urgency, reason: str, note: str, *, action: str) -> None:
        assert regarding.kind == "AdmissionPause"
        assert note
        self.events.append(f"{urgency} {reason} {regarding.name}")

    def state(self, name: str = "pause-1") -> tuple[str, str]:
        found = next(one for one in self.world.rules.pauses.values() if one.metadata.name == name)
        told = condition(found.status.conditions, "Open")
        assert told is not None
        assert found.status.observed_generation == found.metadata.generation == told.observed_generation
        return told.status, told.reason


async def test_a_pause_is_open_when_the_webhooks_were_written_for_it() -> None:
    desk = Desk(pause())
    await desk.keeper.keep()
    assert desk.state() == ("Unknown", "Opening")
    assert desk.turned == 1
    desk.registered = OPEN
    await desk.keeper.keep()
    assert desk.state() == ("True", "Paused")
    assert desk.turned == 1


async def test_at_its_end_it_is_shut_and_the_webhooks_are_asked_for() -> None:
    desk = Desk(pause())
    desk.registered = OPEN
    await desk.keeper.keep()
    desk.now += timedelta(hours=1)
    await desk.keeper.keep()
    assert desk.state() == ("Unknown", "Closing")
    assert desk.turned == 1
    desk.registered = SHUT
    await desk.keeper.keep()
    assert desk.state() == ("False", "Ended")
    assert desk.events == ["Warning AdmissionPaused pause-1", "Normal AdmissionResumed pause-1"]


async def test_one_that_ends_under_another_says_which_keeps_the_door_open() -> None:
    desk = Desk(pause("short", expires="2026-03-01T11:59:00Z"), pause("long"))
    desk.registered = OPEN
    await desk.keeper.keep()
    assert (desk.state("short"), desk.state("long")) == (("False", "Ended"), ("True", "Paused"))
    assert desk.turned == 0


async def test_each_turn_is_told_once_by_whatever_process() -> None:
    desk = Desk(pause())
    for registered in (SHUT, OPEN, OPEN):
        desk.registered = registered
        await desk.keeper.keep()
        desk.start()
    assert desk.events == ["Warning AdmissionPaused pause-1"]
    desk.now += timedelta(hours=1)
    desk.registered = SHUT
    desk.start()
    await desk.keeper.keep()
    await desk.keeper.keep()
    assert desk.events[1:] == ["Normal AdmissionResumed pause-1"]


async def test_one_that_came_and_went_unseen_is_told_of_at_least_at_its_end() -> None:
    desk = Desk(pause(expires="2026-03-01T11:55:00Z"))
    await desk.keeper.keep()
    assert desk.state() == ("False", "Ended")
    assert desk.events == ["Normal AdmissionResumed pause-1"]


async def test_a_new_process_goes_on_saying_that_it_is_open_until_it_knows_better() -> None:
    desk = Desk(pause())
    desk.registered = OPEN
    await desk.keeper.keep()
    for registered, state in ((Registered(), ("True", "Paused")), (SHUT, ("Unknown", "Opening"))):
        desk.registered = registered
        desk.start()
        await desk.keeper.keep()
        assert desk.state() == state


async def test_what_was_open_is_not_called_shut_before_the_webhooks_are_known() -> None:
    desk = Desk(pause())
    desk.registered = OPEN
    await desk.keeper.keep()
    desk.now += timedelta(hours=1)
    desk.registered = Registered()
    desk.start()
    await desk.keeper.keep()
    assert desk.state() == ("Unknown", "Closing")
    desk.registered = SHUT
    await desk.keeper.keep()
    assert desk.state() == ("False", "Ended")
    desk.registered = Registered()
    desk.start()
    await desk.keeper.keep()
    assert desk.state() == ("False", "Ended"), "what is over stays over"


async def test_what_was_not_written_is_not_told() -> None:
    desk = Desk(pause())
    desk.fail = StaleError("gone")
    await desk.keeper.keep()
    assert desk.events == []
    desk.fail = ClusterError("away")
    with pytest.raises(ClusterError):
        await desk.keeper.keep()
    desk.fail = None
    await desk.keeper.keep()
    assert desk.events == ["Warning AdmissionPaused pause-1"]


async def test_it_wakes_by_itself_at_the_end() -> None:
    desk = Desk(pause(expires="2026-03-01T12:00:01Z"))
    desk.registered = OPEN
    began = asyncio.get_running_loop().time()
    running = asyncio.create_task(desk.keeper.run())
    await asyncio.sleep(0.05)
    assert desk.state() == ("True", "Paused")
    # The wall clock of this test goes with the loop's.
    desk.now = NOW + timedelta(seconds=1)
    desk.registered = SHUT
    async with asyncio.timeout(5):
        while desk.state() != ("False", "Ended"):
            await asyncio.sleep(0.01)
    running.cancel()
    assert asyncio.get_running_loop().time() - began >= 0.9


def test_the_message_says_until_when() -> None:
    (told,) = pause_status(pause(), OPEN, NOW).conditions
    assert told.message.startswith("Until 2026-03-01T12:30:00Z no pod is refused")
    (told,) = pause_status(pause(), Registered(False, "The CA does not exist yet."), NOW).conditions
    assert told.message.endswith("The CA does not exist yet.")


async def test_the_metrics_say_that_it_is_open_and_until_when() -> None:
    desk = Desk()
    registry = CollectorRegistry()
    keeper = PauseKeeper(
        desk.world, desk, desk, ControllerMetrics(registry), registered=lambda: OPEN, clock=lambda: desk.now,
        turned=desk.turn,
    )  # fmt: skip
    for there, paused, end in ((False, 0, 0), (True, 1, datetime(2026, 3, 1, 12, 30, tzinfo=UTC).timestamp())):
        if there:
            desk.see(pause())
        await keeper.keep()
        assert registry.get_sample_value("countersign_admission_paused") == paused
        assert registry.get_sample_value("countersign_admission_pause_end_timestamp_seconds") == end
