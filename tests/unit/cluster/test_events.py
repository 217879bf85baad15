"""Events: shown once, repeated as a series, bounded, and never in the way."""

import asyncio
import time

from countersign.cluster.client import ApiClient
from countersign.cluster.events import (
    BURST,
    EVENTS_PER_SECOND,
    MAX_NOTE_BYTES,
    MAX_QUEUE,
    SERIES_SECONDS,
    UPDATE_SECONDS,
    EventRecorder,
    ObjectReference,
)
from tests.fakes.api_server import FakeApiServer, Fault

POD = ObjectReference("v1", "Pod", "api-1", "team", "uid-1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def recorder(client: ApiClient, clock: Clock | None = None) -> EventRecorder:
    return EventRecorder(client, "countersign.dev/controller", "controller-0", clock=clock or Clock())


def revoked(events: EventRecorder, note: str = "the Job completed", regarding: ObjectReference = POD) -> None:
    events.emit(regarding, "Normal", "IdentityRevoked", note, action="Revoke")


async def test_an_event_stands_on_its_object_with_all_that_the_api_asks_for(
    client: ApiClient, server: FakeApiServer
) -> None:
    async with recorder(client) as events:
        revoked(events)
    ((key, event),) = server.objects.items()
    assert key[:2] == ("events", "team")
    assert event["regarding"] == {
        "apiVersion": "v1", "kind": "Pod", "name": "api-1", "namespace": "team", "uid": "uid-1"
    }  # fmt: skip
    assert (event["reason"], event["note"], event["type"]) == ("IdentityRevoked", "the Job completed", "Normal")
    assert event["reportingController"] == "countersign.dev/controller"
    assert event["eventTime"].endswith("Z")
    assert "." in event["eventTime"]
    assert (events.written, events.dropped) == (1, 0)


async def test_an_event_on_a_cluster_scoped_object_stands_in_default(client: ApiClient, server: FakeApiServer) -> None:
    async with recorder(client) as events:
        revoked(events, regarding=ObjectReference("countersign.dev/v1alpha1", "ProtectedAudience", "ledger"))
    assert next(iter(server.objects))[:2] == ("events", "default")


async def test_repeats_become_a_series_that_is_written_now_and_then(client: ApiClient, server: FakeApiServer) -> None:
    clock = Clock()
    async with recorder(client, clock) as events:
        for _ in range(10):
            revoked(events)
        clock.now = UPDATE_SECONDS
        revoked(events)
        revoked(events)
    assert (server.counted("POST"), server.counted("PATCH")) == (1, 1)
    (event,) = server.objects.values()
    assert event["series"]["count"] == 11


async def test_a_repeat_after_a_long_time_is_a_new_event(client: ApiClient, server: FakeApiServer) -> None:
    clock = Clock()
    async with recorder(client, clock) as events:
        revoked(events)
        clock.now = SERIES_SECONDS
        revoked(events)
    assert server.counted("POST") == 2


async def test_another_note_or_object_is_another_event(client: ApiClient, server: FakeApiServer) -> None:
    async with recorder(client) as events:
        revoked(events)
        revoked(events, "the pod was deleted")
        revoked(events, regarding=ObjectReference("v1", "Pod", "api-1", "team", "uid-2"))
    assert server.counted("POST") == 3


async def test_the_rate_is_bounded_and_what_is_over_it_is_counted(client: ApiClient, server: FakeApiServer) -> None:
    clock = Clock()
    async with recorder(client, clock) as events:
        for number in range(int(BURST) + 50):
            revoked(events, f"note {number}")
        assert events.dropped == 50
        clock.now = 1.0
        for number in range(100):
            revoked(events, f"later {number}")
    assert server.counted("POST") == BURST + EVENTS_PER_SECOND
    assert events.dropped == 50 + 100 - EVENTS_PER_SECOND


async def test_the_queue_is_bounded_and_emitting_never_waits(client: ApiClient, server: FakeApiServer) -> None:
    clock = Clock()
    server.faults.append(Fault(lambda _: True, delay=30, times=1))
    started = time.monotonic()
    async with recorder(client, clock) as events:
        for number in range(MAX_QUEUE + 10):
            clock.now += 1
            revoked(events, f"note {number}")
        assert events.dropped == 10
        assert time.monotonic() - started < 15
    assert time.monotonic() - started < 25  # leaving does not wait for a server that hangs
    assert events.dropped >= MAX_QUEUE


async def test_a_refused_event_is_counted_and_the_next_one_is_written(client: ApiClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(lambda _: True, 403))
    async with recorder(client) as events:
        revoked(events, "first")
        revoked(events, "second")
    assert (events.written, events.dropped) == (1, 1)


async def test_a_long_note_is_cut_to_what_validation_allows(client: ApiClient, server: FakeApiServer) -> None:
    async with recorder(client) as events:
        revoked(events, "ü" * 2000)
        await asyncio.sleep(0)
    (event,) = server.objects.values()
    assert len(event["note"].encode()) <= MAX_NOTE_BYTES


async def test_an_event_that_is_insisted_on_is_tried_again(client: ApiClient, server: FakeApiServer) -> None:
    server.faults += [Fault(lambda _: True, 403), Fault(lambda _: True, 429)]
    async with recorder(client) as events:
        said = await events.insist(POD, "Warning", "EtcdRestoreSuspected", "older", action="Restart", within=10)
    assert said
    assert [key[:2] for key in server.objects] == [("events", "team")]
    assert (events.written, events.dropped) == (1, 0)


async def test_an_event_that_is_insisted_on_in_vain_is_dropped_in_time(
    client: ApiClient, server: FakeApiServer
) -> None:
    server.faults.append(Fault(lambda _: True, 403, times=1000))
    async with recorder(client) as events:
        assert not await events.insist(POD, "Warning", "EtcdRestoreSuspected", "older", action="Restart", within=0.7)
    assert (server.objects, events.written, events.dropped) == ({}, 0, 1)
