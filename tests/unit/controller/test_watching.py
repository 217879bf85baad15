from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from countersign.cluster.errors import ConfigError
from countersign.controller.watches.watching import WATCHED, Sighting, Watching, operator_settings
from tests.fakes.api_server import FakeApiServer, running


class Seen:
    def __init__(self) -> None:
        self.sightings: list[Sighting] = []

    def __call__(self, sighting: Sighting) -> None:
        self.sightings.append(sighting)

    def names(self, *, gone: bool = False) -> list[str]:
        return [one.object.metadata.name for one in self.sightings if one.gone is gone]


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": f"uid-{name}", "annotations": {"note": "x" * 1000}},
        "spec": {"containers": [{"name": "app", "image": "image"}]},
        "status": status,
    }


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with running() as fake:
        for group in ("", "countersign.dev"):
            prefix = f"/apis/{group}/v1alpha1" if group else "/api/v1"
            kinds = [plural for of_group, _, plural, _ in WATCHED if of_group == group]
            fake.documents[prefix] = {
                "kind": "APIResourceList",
                "resources": [
                    {"name": plural, "singularName": "", "kind": plural, "namespaced": True, "verbs": ["list", "watch"]}
                    for plural in kinds
                ],
            }
        fake.documents["/api"] = {"versions": ["v1"]}
        fake.documents["/apis"] = {
            "groups": [
                {
                    "name": "countersign.dev",
                    "versions": [{"version": "v1alpha1"}],
                    "preferredVersion": {"version": "v1alpha1"},
                }
            ]
        }
        yield fake


async def holds(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def test_what_happens_reaches_the_main_loop_and_nothing_is_written(server: FakeApiServer) -> None:
    server.put("pods", "first", namespace="payments", **pod("first"))
    seen = Seen()
    watching = Watching(server.config(token=lambda: "fresh"), seen)
    watching.start()
    await holds(lambda: "first" in seen.names())
    assert seen.sightings[0].listed
    assert seen.sightings[0].object.metadata.annotations == {}
    await holds(lambda: server.watching >= len(WATCHED))

    server.put("pods", "second", namespace="payments", **pod("second"))
    await holds(lambda: "second" in seen.names())
    assert not seen.sightings[-1].listed
    server.remove("pods", "first", namespace="payments")
    await holds(lambda: seen.names(gone=True) == ["first"])

    assert watching.is_alive(30)
    assert {method for method, _, _ in server.requests} == {"GET"}, "kopf must write nothing"
    assert set(server.authorizations) == {"Bearer fresh"}
    await watching.stop()
    assert not watching.is_alive(30)


async def test_an_object_that_cannot_be_read_stops_nothing(server: FakeApiServer) -> None:
    server.put("pods", "bad", namespace="payments", metadata={"uid": "uid-bad"}, spec={"containers": 7})
    server.put("pods", "good", namespace="payments", **pod("good"))
    seen = Seen()
    watching = Watching(server.config(), seen)
    watching.start()
    await holds(lambda: "good" in seen.names())
    await watching.stop()
    assert seen.names() == ["good"]


async def test_a_server_name_that_kopf_cannot_ask_for_is_refused() -> None:
    async with running() as fake:
        with pytest.raises(ConfigError, match="tls-server-name"):
            Watching(replace(fake.config(), server_name="other"), Seen())


def test_trouble_with_the_api_never_ends_the_retries() -> None:
    backoffs = operator_settings().networking.error_backoffs
    for _ in range(2):  # each request begins anew
        pauses = iter(backoffs)  # type: ignore[arg-type]
        assert [next(pauses) for _ in range(100)][-1] == 5
