from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from countersign.api.objects import to_object
from countersign.api.pod import Pod
from countersign.cluster.client import ApiClient
from countersign.cluster.errors import ClusterError
from countersign.controller.watches.sweeping import RestoredError, first_sweep, sweep
from countersign.controller.watches.touched import Touched
from countersign.controller.watches.watching import Sighting
from countersign.controller.watches.world import World
from tests.fakes.api_server import FakeApiServer, Fault, is_list, running
from tests.unit.controller.cluster import GOOD, resource_of
from tests.unit.grants.build import active, changed, live

Api = tuple[FakeApiServer, ApiClient]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running() as server, ApiClient(server.config()) as client:
        yield server, client


def put(api: Api, pod: Pod) -> None:
    content = msgspec.to_builtins(pod)
    meta = {key: value for key, value in content["metadata"].items() if key != "resourceVersion"}
    api[0].put("pods", pod.metadata.name, namespace="payments", **{**content, "metadata": meta})


async def every_kind_at_once(client: ApiClient, known: World, _: Callable[[Touched], None]) -> None:
    await first_sweep(client, known)


@pytest.mark.parametrize("look", [sweep, every_kind_at_once])
async def test_a_sweep_brings_everything(api: Api, look: Callable[..., Awaitable[None]]) -> None:
    put(api, live())
    policy = to_object(resource_of(GOOD))
    api[0].put("clustertrustpolicies", "payments", **policy)
    grant = to_object(active()[0])
    api[0].put("workloadgrants", grant["metadata"]["name"], namespace="payments", **grant)
    known = World("countersign-system")
    await look(api[1], known, lambda _: None)
    assert set(known.pods) == {"pod-uid"}
    assert len(known.rules.snapshot().policies) == 1
    assert len(known.grants_of("pod-uid")) == 1


async def test_what_vanished_unseen_is_found(api: Api) -> None:
    put(api, changed(live("stays"), name="stays"))
    known = World("countersign-system")
    known.see(Sighting(live("vanished"), gone=False, listed=False))
    heard: list[Touched] = []
    await sweep(api[1], known, heard.append)
    assert known.pods["vanished"].gone
    assert any("vanished" in touched.pods and touched.ended for touched in heard)


async def test_a_sweep_that_breaks_off_drops_nothing(api: Api) -> None:
    known = World("countersign-system")
    known.see(Sighting(live(), gone=False, listed=False))
    api[0].faults.append(
        Fault(lambda request: is_list(request) and request.path.endswith("/pods"), status=403, times=9)
    )
    with pytest.raises(ClusterError):
        await sweep(api[1], known, lambda _: None)
    assert not known.pods["pod-uid"].gone


async def test_an_object_that_cannot_be_read_is_not_taken_for_one_that_is_gone(api: Api) -> None:
    known = World("countersign-system")
    known.see(Sighting(live(), gone=False, listed=False))
    api[0].put("pods", "api-1", namespace="payments", metadata={"uid": "pod-uid", "labels": 7}, spec={})
    await sweep(api[1], known, lambda _: None)
    assert not known.pods["pod-uid"].gone


async def test_a_list_older_than_the_last_one_tells_of_a_restored_etcd_and_changes_nothing(api: Api) -> None:
    put(api, live())
    known = World("countersign-system")
    await sweep(api[1], known, lambda _: None)
    await sweep(api[1], known, lambda _: None)
    api[0].version -= 1
    api[0].objects.clear()
    with pytest.raises(RestoredError):
        await sweep(api[1], known, lambda _: None)
    assert not known.pods["pod-uid"].gone


async def test_a_first_look_that_breaks_off_is_told(api: Api) -> None:
    api[0].faults.append(
        Fault(lambda request: is_list(request) and request.path.endswith("/pods"), status=403, times=9)
    )
    with pytest.raises(ClusterError):
        await first_sweep(api[1], World("countersign-system"))
