"""Calls to verifiers: by the controller's own token, to each of them, for what has changed since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from countersign.api.verifier_calls import USES_PATH, TokenUses, UsesQuestion, UsesReport
from countersign.cluster.client import ApiClient
from countersign.controller.calls.calling import Where
from countersign.controller.calls.verifiers import Verifiers
from countersign.controller.metrics import ControllerMetrics
from tests.fakes.api_server import FakeApiServer, running
from tests.unit.controller.test_gates import CA, announce, listening

NAME = "countersign-verifier.ours.svc"


class Verifier:
    """A verifier with so many changes, of which it tells two at a time."""

    paths = (USES_PATH,)

    def __init__(self, name: str, changes: int) -> None:
        self.name = name
        self.changes = changes
        self.port = 0
        self.status = 200
        self.shown: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.shown.append(request.headers["Authorization"])
        question = msgspec.json.decode(await request.read(), type=UsesQuestion)
        since = question.known.get(self.name, 0)
        upto = min(since + 2, self.changes)
        uses = tuple(TokenUses(pod_uid=f"{self.name}-{number}", audience="a") for number in range(since, upto))
        report = UsesReport(verifier=self.name, cursor=upto, more=upto < self.changes, uses=uses)
        return web.Response(body=msgspec.json.encode(report), status=self.status)


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with running() as fake:
        yield fake


@asynccontextmanager
async def calling(server: FakeApiServer, token_file: Path) -> AsyncIterator[tuple[Verifiers, CollectorRegistry]]:
    registry = CollectorRegistry()
    async with (
        ApiClient(server.config()) as client,
        Verifiers(
            client, Where("ours", "countersign-verifier"), ControllerMetrics(registry),
            ca_bundle=CA.trust_bundle, token_file=token_file,
        ) as verifiers,
    ):  # fmt: skip
        yield verifiers, registry


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first\n")
    return file


def told(reports: list[UsesReport]) -> list[str]:
    return sorted(use.pod_uid for report in reports for use in report.uses)


async def test_each_verifier_tells_all_once_and_then_what_is_new(server: FakeApiServer, token_file: Path) -> None:
    async with (
        listening(Verifier("a", 5), name=NAME) as one,
        listening(Verifier("b", 1), name=NAME) as other,
        calling(server, token_file) as (verifiers, _),
    ):
        announce(server, one, other, service="countersign-verifier")
        assert told(await verifiers.uses()) == ["a-0", "a-1", "a-2", "a-3", "a-4", "b-0"]
        assert told(await verifiers.uses()) == []
        other.changes = 2
        assert told(await verifiers.uses()) == ["b-1"]


async def test_the_token_is_the_one_in_the_file_at_each_call(server: FakeApiServer, token_file: Path) -> None:
    async with listening(Verifier("a", 1), name=NAME) as one, calling(server, token_file) as (verifiers, _):
        announce(server, one, service="countersign-verifier")
        await verifiers.uses()
        token_file.write_text("renewed")
        await verifiers.uses()
    assert one.shown == ["Bearer first", "Bearer renewed"]


async def test_without_a_token_nobody_is_asked_and_it_is_counted(server: FakeApiServer, token_file: Path) -> None:
    token_file.unlink()
    async with listening(Verifier("a", 1), name=NAME) as one, calling(server, token_file) as (verifiers, registry):
        announce(server, one, service="countersign-verifier")
        assert await verifiers.uses() == []
    assert one.shown == []
    labels = {"path": USES_PATH}
    assert registry.get_sample_value("countersign_controller_verifier_call_errors_total", labels) == 1


async def test_one_that_refuses_keeps_nothing_back(server: FakeApiServer, token_file: Path) -> None:
    async with (
        listening(Verifier("a", 1), name=NAME) as one,
        listening(Verifier("b", 1), name=NAME) as other,
        calling(server, token_file) as (verifiers, _),
    ):
        announce(server, one, other, service="countersign-verifier")
        one.status = 401
        assert told(await verifiers.uses()) == ["b-0"]
        one.status = 200
        assert told(await verifiers.uses()) == ["a-0"]


async def test_one_that_is_no_verifier_of_ours_is_shown_no_token(server: FakeApiServer, token_file: Path) -> None:
    async with (
        listening(Verifier("a", 1), name="evil.example.com") as one,
        calling(server, token_file) as (verifiers, _),
    ):
        announce(server, one, service="countersign-verifier")
        assert await verifiers.uses() == []
    assert one.shown == []
