"""The reflector against a server that misbehaves: whatever happens, the cache ends up equal to what is there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from countersign.cluster.cache import Added, Change, Deleted, Modified
from countersign.cluster.client import ApiClient
from countersign.cluster.resource import PODS
from countersign.cluster.watch import MAX_LINE_BYTES, Reflector, backoff
from tests.fakes.api_server import CUT, FakeApiServer, Fault, event, is_list, is_watch, status


class Meta(msgspec.Struct):
    name: str
    labels: dict[str, str] = {}


class Pod(msgspec.Struct):
    metadata: Meta
    phase: str = ""


def phase(pod: Pod) -> str:
    return pod.phase


@asynccontextmanager
async def reflecting(client: ApiClient, **options: Any) -> AsyncIterator[Reflector[Pod, str]]:
    reflector = Reflector(client, PODS, Pod, phase, **{"pause": lambda _: 0.02} | options)
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(reflector.cache.synced.wait(), 5)
        yield reflector
    finally:
        assert not task.done(), "the reflector must never end by itself"
        task.cancel()


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def put(server: FakeApiServer, name: str, phase: str = "Running") -> None:
    server.put("pods", name, namespace="team", phase=phase)


async def test_it_lists_in_pages_and_follows_every_change(client: ApiClient, server: FakeApiServer) -> None:
    for number in range(5):
        put(server, f"p{number}")
    async with reflecting(client, page_size=2) as reflector:
        changes: list[Change[str]] = []
        assert len(reflector.cache) == 5
        await until(lambda: server.watching == 1)
        reflector.cache.on_change(changes.append)
        put(server, "new")
        put(server, "p0", "Succeeded")
        put(server, "p1", "Failed")
        server.remove("pods", "p1", namespace="team")
        await until(lambda: len(changes) == 9)
    assert [type(change) for change in changes[5:]] == [Added, Modified, Modified, Deleted]
    assert isinstance(changes[6], Modified)
    assert (changes[6].old, changes[6].new) == ("Running", "Succeeded")
    assert isinstance(changes[8], Deleted)
    assert changes[8].old == "Failed"


async def test_a_watch_that_ends_in_order_is_resumed_where_it_stopped(client: ApiClient, server: FakeApiServer) -> None:
    async with reflecting(client) as reflector:
        for number in range(3):
            await until(lambda: server.watching == 1)
            server.end_watches()
            await until(lambda: server.watching == 0)
            put(server, f"p{number}")
            await until(lambda number=number: len(reflector.cache) == number + 1)  # type: ignore[misc]
        assert reflector.lists == 1


async def test_a_bookmark_moves_the_version_that_a_watch_resumes_from(client: ApiClient, server: FakeApiServer) -> None:
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        server.compact()
        server.push(event("BOOKMARK", {"metadata": {"resourceVersion": str(server.version)}}))
        await until(lambda: reflector.events == 1)
        server.end_watches()
        await until(lambda: reflector.watches == 2)
        assert reflector.lists == 1


async def test_410_as_a_status_lists_again_and_finds_what_vanished_in_the_gap(
    client: ApiClient, server: FakeApiServer
) -> None:
    put(server, "stays")
    put(server, "goes")
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        changes: list[Change[str]] = []
        reflector.cache.on_change(changes.append)
        server.end_watches()
        await until(lambda: server.watching == 0)
        server.remove("pods", "goes", namespace="team", silently=True)
        server.compact()
        await until(lambda: reflector.lists == 2)
        assert [type(change) for change in changes] == [Added, Added, Deleted]
        assert changes[2].key == ("team", "goes")


async def test_410_within_the_stream_lists_again(client: ApiClient, server: FakeApiServer) -> None:
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        server.push(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"old"}}\n')
        await until(lambda: reflector.lists == 2)


async def test_410_between_two_pages_begins_the_list_anew(client: ApiClient, server: FakeApiServer) -> None:
    for number in range(4):
        put(server, f"p{number}")
    server.faults.append(Fault(lambda request: "continue" in request.query, 410, status(410, "Expired")))
    async with reflecting(client, page_size=2) as reflector:
        assert len(reflector.cache) == 4
        assert reflector.failures == 1


async def test_an_object_replaced_by_a_namesake_in_the_gap_is_deleted_and_added(
    client: ApiClient, server: FakeApiServer
) -> None:
    put(server, "a", "old")
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        changes: list[Change[str]] = []
        reflector.cache.on_change(changes.append)
        server.end_watches()
        await until(lambda: server.watching == 0)
        server.remove("pods", "a", namespace="team", silently=True)
        put(server, "a", "new")
        server.compact()
        await until(lambda: reflector.lists == 2)
        assert [type(change) for change in changes] == [Added, Deleted, Added]


async def test_a_connection_cut_in_mid_line_loses_nothing(client: ApiClient, server: FakeApiServer) -> None:
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        server.push(b'{"type":"ADDED","object":{"metadata":{"name":"half')
        server.push(CUT)
        put(server, "a")
        await until(lambda: reflector.cache.get("team", "a") is not None)
        assert len(reflector.cache) == 1
        assert reflector.lists == 1


async def test_a_line_of_a_megabyte_is_read(client: ApiClient, server: FakeApiServer) -> None:
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        server.put("pods", "big", namespace="team", phase="x" * (1 << 20), other="y" * (1 << 20))
        await until(lambda: len(reflector.cache.get("team", "big") or "") == 1 << 20)


async def test_a_line_beyond_the_limit_is_dropped_and_the_watch_taken_up_again(
    client: ApiClient, server: FakeApiServer
) -> None:
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        server.push(b"x" * (MAX_LINE_BYTES + 1))
        await until(lambda: reflector.failures == 1)
        put(server, "a")
        await until(lambda: len(reflector.cache) == 1)


async def test_a_silent_stream_is_replaced_by_another_from_the_same_version(
    client: ApiClient, server: FakeApiServer
) -> None:
    async with reflecting(client, silence_seconds=0.05) as reflector:
        await until(lambda: reflector.watches >= 3)
        put(server, "a")
        await until(lambda: len(reflector.cache) == 1)
        assert reflector.lists == 1


async def test_what_changes_all_the_time_is_listed_anew_when_it_falls_silent(
    client: ApiClient, server: FakeApiServer
) -> None:
    async with reflecting(client, silence_seconds=0.05, relist_when_silent=True) as reflector:
        await until(lambda: reflector.lists >= 3)


async def test_silence_ages_the_cache_only_while_the_server_does_not_answer(
    client: ApiClient, server: FakeApiServer
) -> None:
    async with reflecting(client, silence_seconds=0.05) as reflector:
        await until(lambda: reflector.watches >= 2)
        before = reflector.cache.last_activity
        await until(lambda: reflector.cache.last_activity > before)
        server.faults.append(Fault(lambda _: True, 503, times=1000))
        await until(lambda: reflector.failures > 0)
        before = reflector.cache.last_activity
        await asyncio.sleep(0.3)
        assert reflector.cache.last_activity == before
        assert reflector.cache.is_stale(before + 10, 5)


async def test_a_server_in_trouble_is_asked_again_until_it_recovers(client: ApiClient, server: FakeApiServer) -> None:
    server.faults += [
        Fault(is_list, 500, status(500, "InternalError")),
        Fault(is_list, 403, status(403, "Forbidden")),
        Fault(is_list, 200, b"not json"),
        Fault(is_list, 200, b'{"metadata":{},"items":[]}'),
        Fault(is_watch, 500, status(500, "InternalError")),
        Fault(is_watch, 429, status(429, "TooManyRequests")),
        Fault(is_watch, disconnect=True),
        Fault(is_watch, 200, b"not json\n"),
    ]
    put(server, "a")
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1, 15)
        put(server, "b")
        await until(lambda: len(reflector.cache) == 2)


async def test_a_server_that_ends_every_watch_at_once_is_not_asked_in_a_tight_loop(
    client: ApiClient, server: FakeApiServer
) -> None:
    server.faults.append(Fault(is_watch, 200, b"", times=1000))
    async with reflecting(client, pause=backoff) as reflector:
        await asyncio.sleep(1)
        assert reflector.watches <= 6


async def test_watches_failing_for_ever_at_one_version_end_in_a_new_list(
    client: ApiClient, server: FakeApiServer
) -> None:
    too_large = status(504, "Timeout", "Too large resource version")
    server.faults.append(Fault(is_watch, 504, too_large, times=4))
    async with reflecting(client) as reflector:
        await until(lambda: reflector.lists == 2, 15)


async def test_an_object_that_does_not_parse_is_dropped_alone_and_noted(
    client: ApiClient, server: FakeApiServer
) -> None:
    put(server, "good")
    server.put("pods", "bad", namespace="team", phase=5)
    async with reflecting(client) as reflector:
        await until(lambda: server.watching == 1)
        assert list(reflector.cache.malformed) == [("team", "bad")]
        assert len(reflector.cache) == 1
        server.put("pods", "good", namespace="team", phase=["no"])
        await until(lambda: len(reflector.cache.malformed) == 2)
        assert len(reflector.cache) == 0
        put(server, "bad")
        server.remove("pods", "good", namespace="team")
        await until(lambda: len(reflector.cache) == 1)
        assert reflector.cache.malformed == {}


async def test_a_projection_that_raises_drops_that_object_alone(client: ApiClient, server: FakeApiServer) -> None:
    def picky(pod: Pod) -> str:
        if pod.phase == "odd":
            raise LookupError("defect")
        return pod.phase

    put(server, "odd", "odd")
    put(server, "good")
    reflector = Reflector(client, PODS, Pod, picky)
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.cache.synced.wait(), 5)
    assert (len(reflector.cache), list(reflector.cache.malformed)) == (1, [("team", "odd")])
    task.cancel()


async def test_one_object_is_watched_by_a_field_selector_that_rbac_can_allow(
    client: ApiClient, server: FakeApiServer
) -> None:
    put(server, "a")
    put(server, "b")
    async with reflecting(client, namespace="team", name="a", label_selector="x=y") as reflector:
        await until(lambda: server.watching == 1)
        put(server, "b", "Failed")
        put(server, "a", "Failed")
        await until(lambda: reflector.cache.get("team", "a") == "Failed")
        assert len(reflector.cache) == 1
    for _, path, query in server.requests:
        assert path == "/api/v1/namespaces/team/pods"
        assert (query["fieldSelector"], query["labelSelector"]) == ("metadata.name=a", "x=y")
