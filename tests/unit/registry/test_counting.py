"""Requests are counted by whoever caused them, wherever they are sent from."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from countersign.registry.client import Access, RegistryClient
from countersign.registry.counting import RequestCount, counted_in
from countersign.registry.fairness import Share
from countersign.registry.flight import Flights
from countersign.trust.images.reference import ImageReference
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.registry.conftest import ClientMaker


@pytest.fixture
async def registry(ca: CertificateAuthority) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(ca) as fake:
        fake.put_image("team/app", "v1")
        yield fake


async def resolve(client: RegistryClient, registry: FakeRegistry, share: Share) -> str:
    image = ImageReference.parse(f"{registry.host}/team/app:v1")
    return (await client.resolve(image, Access(share))).digest


async def test_every_request_is_counted_those_for_tokens_too(registry: FakeRegistry, client_for: ClientMaker) -> None:
    registry.bearer = "secret"
    count = RequestCount()
    async with client_for(registry.host) as client:
        with counted_in(count):
            await resolve(client, registry, Share("team-a"))
    assert count.made == len(registry.seen) > 1


async def test_what_is_sent_outside_is_not_counted(registry: FakeRegistry, client_for: ClientMaker) -> None:
    count = RequestCount()
    async with client_for(registry.host) as client:
        with counted_in(count):
            pass
        await resolve(client, registry, Share("team-a"))
    assert registry.seen
    assert count.made == 0


async def test_work_that_goes_on_in_the_background_is_counted_when_it_is_done(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    count = RequestCount()
    flights: Flights[str, str] = Flights()
    async with client_for(registry.host) as client:
        may_start = asyncio.Event()

        async def work(share: Share) -> str:
            await may_start.wait()
            return await resolve(client, registry, share)

        with counted_in(count):
            mine = asyncio.create_task(flights.result("key", "team-a", work, asyncio.get_running_loop().time() + 20))
            await asyncio.sleep(0)
        joined = asyncio.create_task(flights.result("key", "team-b", work, asyncio.get_running_loop().time() + 20))
        await asyncio.sleep(0)
        assert count.take() == 0
        may_start.set()
        assert await mine == await joined
        await flights.close()
    assert count.take() == len(registry.seen)
    assert count.take() == 0, "told once"


async def test_who_joins_the_work_of_others_is_not_charged_for_it(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    count = RequestCount()
    flights: Flights[str, str] = Flights()
    async with client_for(registry.host) as client:
        until = asyncio.get_running_loop().time() + 20

        async def work(share: Share) -> str:
            return await resolve(client, registry, share)

        theirs = asyncio.create_task(flights.result("key", "team-b", work, until))
        await asyncio.sleep(0)
        with counted_in(count):
            assert await flights.result("key", "team-a", work, until) == await theirs
        await flights.close()
    assert registry.seen
    assert count.made == 0
