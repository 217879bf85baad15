from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from countersign.api.names import CLOSED_ANNOTATION, WEBHOOK_CONFIGURATION
from countersign.cluster.client import ApiClient
from countersign.controller.keys.ownership import Owners
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.watches.watching import Sighting
from countersign.controller.watches.world import World
from countersign.controller.webhooks.registration import Registrar, probe
from countersign.controller.webhooks.webhooks import GateEndpoint
from countersign.keys.authority import AuthoritySet, issue, new_authority
from countersign.tls import load_key_pair
from tests.fakes.api_server import FakeApiServer, Fault, running
from tests.unit.controller.cluster import GOOD, resource_of

CA = AuthoritySet((new_authority(datetime.now(UTC)),))
BUNDLE = CA.trust_bundle()
NOWHERE = GateEndpoint("", "", url="https://127.0.0.1:1")


class Leader:
    def fence(self) -> None:
        return


@asynccontextmanager
async def gate(authority: AuthoritySet = CA, name: str = "127.0.0.1") -> AsyncIterator[GateEndpoint]:
    """Something that serves TLS with a certificate of that CA for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_key_pair(context, *issue(authority.authorities[0], [name], datetime.now(UTC)))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield GateEndpoint("", "", url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@pytest.fixture
async def api() -> AsyncIterator[tuple[FakeApiServer, ApiClient]]:
    async with running() as server, ApiClient(server.config()) as client:
        yield server, client


Api = tuple[FakeApiServer, ApiClient]


def world(*, governed: bool = True) -> World:
    known = World("countersign-system")
    if governed:
        known.see(Sighting(resource_of(GOOD), gone=False, listed=False))
    return known


def registrar(
    api: Api, endpoint: GateEndpoint, known: World | None = None, bundle: bytes = BUNDLE, *, paused: bool = False
) -> Registrar:
    return Registrar(
        known or world(), api[1], Leader(), endpoint, ControllerMetrics(CollectorRegistry()),
        owner=Owners(api[1], "ours").cluster, ca_bundle=lambda: bundle, paused=lambda: paused,
        changed=lambda: None, load_seconds=0.0,
    )  # fmt: skip


def stored(api: Api, kind: str = "mutating") -> dict[str, Any]:
    found: dict[str, Any] = api[0].objects[f"{kind}webhookconfigurations", "", WEBHOOK_CONFIGURATION]
    return found


def policies(api: Api) -> set[str]:
    return {entry["failurePolicy"] for entry in stored(api)["webhooks"]}


async def test_nothing_is_written_before_there_is_a_ca(api: Api) -> None:
    assert not (await registrar(api, NOWHERE, bundle=b"").register()).written
    assert not api[0].objects


async def test_until_the_gate_answers_nothing_fails_closed(api: Api) -> None:
    outcome = await registrar(api, NOWHERE).register()
    assert outcome.written
    assert "does not answer" in outcome.problem
    assert policies(api) == {"Ignore"}


async def test_when_the_gate_answers_what_is_enforced_fails_closed(api: Api) -> None:
    async with gate() as endpoint:
        outcome = await registrar(api, endpoint).register()
    assert (outcome.written, outcome.problem) == (True, "")
    assert policies(api) == {"Fail"}


async def test_a_gate_that_goes_away_opens_nothing_not_even_for_a_new_controller(api: Api) -> None:
    async with gate() as endpoint:
        await registrar(api, endpoint).register()
    outcome = await registrar(api, endpoint).register()
    assert outcome.problem == ""
    assert policies(api) == {"Fail"}


async def test_a_gate_under_another_ca_does_not_count(api: Api) -> None:
    stranger = AuthoritySet((new_authority(datetime.now(UTC)),))
    async with gate(stranger) as endpoint:
        assert await probe(endpoint, BUNDLE)
        await registrar(api, endpoint).register()
    assert policies(api) == {"Ignore"}


async def test_a_gate_is_found_by_its_services_address_where_no_dns_answers(api: Api) -> None:
    async with gate(name="countersign-gate.ours.svc") as served:
        port = int(served.url.rpartition(":")[2])
        by_service = GateEndpoint("ours", "countersign-gate", port=port)
        assert "does not answer" in (await registrar(api, by_service).register()).problem
        api[0].put("services", "countersign-gate", namespace="ours", spec={"clusterIP": "127.0.0.1"})
        outcome = await registrar(api, by_service).register()
    assert (outcome.written, outcome.problem) == (True, "")
    assert policies(api) == {"Fail"}


async def test_what_is_right_is_not_written_again(api: Api) -> None:
    async with gate() as endpoint:
        keeper = registrar(api, endpoint)
        await keeper.register()
        before = api[0].version
        await keeper.register()
    assert api[0].version == before


async def test_what_somebody_changed_or_deleted_is_put_right(api: Api) -> None:
    async with gate() as endpoint:
        keeper = registrar(api, endpoint)
        await keeper.register()
        right = stored(api)["webhooks"]
        api[0].put("mutatingwebhookconfigurations", WEBHOOK_CONFIGURATION, webhooks=[])
        api[0].remove("validatingwebhookconfigurations", WEBHOOK_CONFIGURATION)
        await keeper.register()
    assert stored(api)["webhooks"] == right
    assert stored(api, "validating")["webhooks"]


async def test_without_policies_the_configurations_are_there_and_empty(api: Api) -> None:
    outcome = await registrar(api, NOWHERE, world(governed=False)).register()
    assert (outcome.written, outcome.problem) == (True, "")
    assert stored(api)["webhooks"] == stored(api, "validating")["webhooks"] == []


async def test_an_api_server_that_fails_is_asked_again(api: Api) -> None:
    api[0].faults.append(Fault(lambda request: request.method == "POST", status=500))
    async with gate() as endpoint:
        keeper = registrar(api, endpoint)
        running_ = asyncio.create_task(keeper.run())
        async with asyncio.timeout(10):
            while not keeper.registered.written:
                await asyncio.sleep(0.01)
        running_.cancel()
        with suppress(asyncio.CancelledError):
            await running_
    assert policies(api) == {"Fail"}


async def test_what_validates_is_written_after_what_mutates(api: Api) -> None:
    await registrar(api, NOWHERE).register()
    kinds = [kind for kind, _, _ in api[0].objects]
    assert kinds.index("mutatingwebhookconfigurations") < kinds.index("validatingwebhookconfigurations")


async def test_a_pause_opens_what_failed_closed_and_remembers_that_it_did(api: Api) -> None:
    async with gate() as endpoint:
        await registrar(api, endpoint).register()
        outcome = await registrar(api, endpoint, paused=True).register()
    assert outcome.paused
    assert policies(api) == {"Ignore"}
    assert CLOSED_ANNOTATION in stored(api)["metadata"]["annotations"]


async def test_when_a_pause_is_over_the_door_is_shut_though_no_gate_answers_and_the_controller_is_new(api: Api) -> None:
    async with gate() as endpoint:
        await registrar(api, endpoint).register()
        await registrar(api, endpoint, paused=True).register()
    outcome = await registrar(api, endpoint).register()
    assert (outcome.paused, outcome.problem) == (False, "")
    assert policies(api) == {"Fail"}
    assert not stored(api)["metadata"].get("annotations")


async def test_a_write_that_fails_does_not_make_the_door_look_shut(api: Api) -> None:
    async with gate() as endpoint:
        await registrar(api, endpoint).register()
        paused = [True]
        keeper = Registrar(
            world(), api[1], Leader(), endpoint, ControllerMetrics(CollectorRegistry()),
            owner=Owners(api[1], "ours").cluster, ca_bundle=lambda: BUNDLE, paused=lambda: paused[0],
            changed=lambda: None, load_seconds=0.0,
        )  # fmt: skip
        running_ = asyncio.create_task(keeper.run())
        async with asyncio.timeout(10):
            while not keeper.registered.paused:
                await asyncio.sleep(0.01)
            api[0].faults.append(Fault(lambda request: request.method == "PUT", status=500))
            paused[0] = False
            keeper.wake()
            while keeper.registered.written:
                await asyncio.sleep(0.01)
            assert keeper.registered.paused
            while keeper.registered.paused:
                await asyncio.sleep(0.01)
        running_.cancel()
        with suppress(asyncio.CancelledError):
            await running_
    assert policies(api) == {"Fail"}


async def test_a_pause_before_any_gate_has_answered_closes_nothing_at_its_end(api: Api) -> None:
    await registrar(api, NOWHERE, paused=True).register()
    assert "annotations" not in stored(api)["metadata"]
    await registrar(api, NOWHERE).register()
    assert policies(api) == {"Ignore"}
