"""Calls to gates: each is found by its EndpointSlice, trusted by our CA and the Service's name, and answers or not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from countersign.api.gate_calls import (
    OUTLOOK_PATH,
    TALLIES_PATH,
    OutlookAnswer,
    OutlookQuestion,
    PolicyTally,
    TallyReport,
)
from countersign.api.policy_status import GateTally
from countersign.cluster.client import ApiClient
from countersign.controller.calls.calling import MAX_ANSWER_BYTES, SERVICE_LABEL
from countersign.controller.calls.gates import Gates
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.webhooks.webhooks import GateEndpoint
from countersign.keys.authority import AuthoritySet, issue, new_authority
from countersign.keys.calls import CallVerifier
from countersign.keys.receipt_keys import ReceiptKeys, plan_receipt_keys
from countersign.tls import load_key_pair
from tests.fakes.api_server import FakeApiServer, Fault, is_list, running
from tests.unit.trust.build import pod

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = plan_receipt_keys(None, NOW) or ReceiptKeys(())
CA = AuthoritySet((new_authority(datetime.now(UTC)),))
OTHERS = AuthoritySet((new_authority(datetime.now(UTC)),))
SERVICE = GateEndpoint("ours", "countersign-gate")


class Gate:
    """A gate that answers what it is told to."""

    paths: tuple[str, ...] = (TALLIES_PATH, OUTLOOK_PATH)

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.port = 0
        self.answer: bytes | None = None
        self.status = 200
        self.questions: list[OutlookQuestion] = []
        self.verifier = CallVerifier(lambda: KEYS, lambda: NOW)

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self.verifier.verify(request.headers.get("Authorization", ""), request.path, body):
            return web.Response(status=401)
        if request.path == OUTLOOK_PATH:
            self.questions.append(msgspec.json.decode(body, type=OutlookQuestion))
            made: Any = OutlookAnswer(registry_requests=3)
        else:
            tally = GateTally(gate=self.name, allowed=1)
            made = TallyReport(policies=(PolicyTally(uid="p", generation=1, tally=tally),))
        return web.Response(body=self.answer or msgspec.json.encode(made), status=self.status)


class Replica(Protocol):
    """One of our services, as the controller calls it."""

    port: int

    @property
    def paths(self) -> tuple[str, ...]:
        """What it answers."""

    async def serve(self, request: web.Request) -> web.Response:
        """The answer."""


R = TypeVar("R", bound=Replica)


@asynccontextmanager
async def listening(
    gate: R, *, authority: AuthoritySet = CA, name: str = "countersign-gate.ours.svc"
) -> AsyncIterator[R]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_key_pair(context, *issue(authority.authorities[0], [name], datetime.now(UTC)))
    application = web.Application(client_max_size=4 * 1024 * 1024)
    for path in gate.paths:
        application.router.add_post(path, gate.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    gate.port = runner.addresses[0][1]
    try:
        yield gate
    finally:
        await runner.cleanup()


def announce(server: FakeApiServer, *replicas: Replica, service: str = "countersign-gate") -> None:
    for number, gate in enumerate(replicas):
        server.put(
            "endpointslices",
            f"{service}-{number}",
            namespace="ours",
            metadata={"labels": {SERVICE_LABEL: service}},
            endpoints=[{"addresses": ["127.0.0.1"], "conditions": {"ready": number == 0}}],
            ports=[{"name": "metrics", "port": 1}, {"name": "https", "port": gate.port}],
        )


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with running() as fake:
        yield fake


@asynccontextmanager
async def calling(
    server: FakeApiServer, endpoint: GateEndpoint = SERVICE, *, bundle: bytes | None = None
) -> AsyncIterator[Gates]:
    async with (
        ApiClient(server.config()) as client,
        Gates(
            client, endpoint, ControllerMetrics(CollectorRegistry()),
            ca_bundle=lambda: CA.trust_bundle() if bundle is None else bundle, keys=lambda: KEYS, clock=lambda: NOW,
        ) as gates,
    ):  # fmt: skip
        yield gates


def names(reports: list[TallyReport]) -> set[str]:
    return {one.tally.gate for report in reports for one in report.policies}


async def test_every_gate_is_asked_ready_or_not(server: FakeApiServer) -> None:
    async with listening(Gate("a")) as one, listening(Gate("b")) as other, calling(server) as gates:
        announce(server, one, other)
        assert names(await gates.tallies()) == {"a", "b"}


async def test_one_that_does_not_answer_keeps_nothing_back(server: FakeApiServer) -> None:
    async with listening(Gate("a")) as one, calling(server) as gates:
        gone = Gate("gone")
        gone.port = 1
        announce(server, one, gone)
        assert names(await gates.tallies()) == {"a"}


async def test_a_gate_by_url_is_asked_there(server: FakeApiServer) -> None:
    async with listening(Gate("a"), name="127.0.0.1") as one:
        endpoint = GateEndpoint("", "", url=f"https://127.0.0.1:{one.port}")
        async with calling(server, endpoint) as gates:
            assert names(await gates.tallies()) == {"a"}


@pytest.mark.parametrize("how", ["another CA", "another name"])
async def test_who_is_no_gate_of_ours_is_told_nothing(server: FakeApiServer, how: str) -> None:
    authority = OTHERS if how == "another CA" else CA
    name = "evil.example.com" if how == "another name" else "countersign-gate.ours.svc"
    gate = Gate()
    async with listening(gate, authority=authority, name=name), calling(server) as gates:
        announce(server, gate)
        assert await gates.tallies() == []
        assert await gates.outlook("payments", pod()) is None
    assert gate.questions == []


async def test_nobody_is_asked_before_there_is_a_ca(server: FakeApiServer) -> None:
    async with listening(Gate()) as gate, calling(server, bundle=b"") as gates:
        announce(server, gate)
        assert await gates.tallies() == []


async def test_another_gate_is_asked_where_one_cannot_tell(server: FakeApiServer) -> None:
    async with listening(Gate("a")) as one, listening(Gate("b")) as other, calling(server) as gates:
        announce(server, one, other)
        one.status = 503
        for _ in range(2):
            answer = await gates.outlook("payments", pod())
            assert answer is not None
            assert answer.registry_requests == 3
        assert {len(gate.questions) for gate in (one, other)} == {1, 2}


async def test_a_question_holds_the_pod_as_it_is(server: FakeApiServer) -> None:
    asked = pod()
    async with listening(Gate()) as gate, calling(server) as gates:
        announce(server, gate)
        assert await gates.outlook("payments", asked) is not None
    (question,) = gate.questions
    assert (question.namespace, question.pod) == ("payments", asked)


@pytest.mark.parametrize("answer", [b"{", b"[]", b'{"policies":1}', b" " * (MAX_ANSWER_BYTES + 1)])
async def test_an_answer_that_is_none_counts_for_none(server: FakeApiServer, answer: bytes) -> None:
    async with listening(Gate()) as gate, calling(server) as gates:
        announce(server, gate)
        gate.answer = answer
        assert await gates.tallies() == []


async def test_an_api_server_that_does_not_answer_leaves_all_as_it_is(server: FakeApiServer) -> None:
    server.faults.append(Fault(is_list, status=403, times=10))
    async with calling(server) as gates:
        assert await asyncio.wait_for(gates.tallies(), 30) == []
