"""The Lease is kept while the loop is busy, and lost when the loop stands still."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from countersign.cluster.client import ApiClient
from countersign.cluster.lease import LeaseElector
from countersign.cluster.lease_keeper import LeaseKeeper
from tests.fakes.api_server import FakeApiServer, running


def campaign(server: FakeApiServer, identity: str) -> Callable[..., Any]:
    """An elector of a Lease of two seconds."""

    @asynccontextmanager
    async def run(
        is_alive: Callable[[], bool], on_lost: Callable[[], None], on_rewound: Callable[[], None]
    ) -> AsyncIterator[LeaseElector]:
        async with (
            ApiClient(server.config()) as client,
            LeaseElector(
                client, "ns", "lease", identity, is_alive=is_alive, on_lost=on_lost, on_rewound=on_rewound,
                duration=2, renew_deadline=1.5, renew_every=0.1, check_every=0.05,
            ) as elector,
        ):  # fmt: skip
            yield elector

    return run


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    """One in a loop of its own, so that it answers while the test's loop does not turn."""
    loop, up, down = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[FakeApiServer] = []

    async def serve() -> None:
        async with running() as fake:
            found.append(fake)
            up.set()
            await down.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert up.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(down.set)
    thread.join()
    loop.close()


def keeper(server: FakeApiServer, lost: list[float], identity: str = "a", **options: float) -> LeaseKeeper:
    return LeaseKeeper(
        campaign(server, identity),
        on_lost=lambda: lost.append(time.monotonic()),
        on_rewound=lambda: None,
        **options,
    )


def holder(server: FakeApiServer) -> str:
    return str(server.objects[("leases", "ns", "lease")]["spec"]["holderIdentity"])


async def test_a_loop_that_is_busy_for_longer_than_the_lease_keeps_it(server: FakeApiServer) -> None:
    lost: list[float] = []
    async with keeper(server, lost) as kept:
        assert kept.leads
        time.sleep(3)
        assert kept.leads
        await asyncio.sleep(0.1)
        assert not lost
    assert not kept.leads
    assert holder(server) == ""


async def test_a_loop_that_stands_still_loses_the_lease(server: FakeApiServer) -> None:
    lost: list[float] = []
    async with keeper(server, lost, stall_seconds=0.8) as kept:
        time.sleep(4)
        assert not kept.leads
        await asyncio.sleep(0.1)
        assert lost


async def test_another_that_leaves_is_followed(server: FakeApiServer) -> None:
    async with keeper(server, []):
        follower = keeper(server, [], "b")
        waiting = asyncio.create_task(follower.__aenter__())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert not follower.leads
    await waiting
    assert holder(server) == "b"
    await follower.__aexit__(None, None, None)


async def test_a_candidate_that_gives_up_leaves_no_thread(server: FakeApiServer) -> None:
    async with keeper(server, []):
        waiting = asyncio.create_task(keeper(server, [], "b").__aenter__())
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [one.name for one in threading.enumerate()].count("lease") == 1
        assert holder(server) == "a"


async def test_a_candidate_that_gives_up_at_once_leaves_no_thread(server: FakeApiServer) -> None:
    waiting = asyncio.create_task(keeper(server, []).__aenter__())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert "lease" not in [one.name for one in threading.enumerate()]


async def test_what_goes_wrong_before_it_leads_is_raised() -> None:
    @asynccontextmanager
    async def broken(*_: Callable[..., Any]) -> AsyncIterator[LeaseElector]:
        raise ValueError("an empty identity")
        yield

    with pytest.raises(ValueError, match="an empty identity"):
        await LeaseKeeper(broken, on_lost=lambda: None, on_rewound=lambda: None).__aenter__()
