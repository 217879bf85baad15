"""A controller killed at each of its writes, before the API server has it and after: whoever follows ends up the same.

The life of one instance takes three writes: the grant, that it is Active, and that it is Revoked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_controller import grants, state, until
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation
from tests.stack.interposer import Fate, Interposer

Object = dict[str, Any]
pytestmark = pytest.mark.lab

GRANTS = "/workloadgrants"


class Doomed:
    """A controller that leads, and that dies at the write that the test names."""

    def __init__(self, countersign: Installation, interposer: Interposer) -> None:
        self.countersign = countersign
        self.interposer = interposer
        self.dead = threading.Event()

    def dies(self, namespace: str, method: str, path_ends: str, fate: Fate, *, nth: int = 1) -> None:
        """SIGKILL it at the nth such write of that namespace's grants."""
        seen = 0

        def rule(asked: str, path: str) -> Fate:
            nonlocal seen
            if asked != method or f"/namespaces/{namespace}{GRANTS}" not in path or not path.endswith(path_ends):
                return "pass"
            seen += 1
            return fate if seen == nth else "pass"

        def kill() -> None:
            self.countersign.kill("controller")
            self.dead.set()

        self.interposer.cut(rule, kill)

    def await_death(self) -> None:
        assert self.dead.wait(20), "the controller never came to that write"


@pytest.fixture
def doomed(countersign: Installation) -> Iterator[Doomed]:
    with Interposer(countersign.lab) as interposer:
        countersign.stop("controller")
        kubeconfig = interposer.kubeconfig(countersign.namespace, "countersign-controller")
        countersign.start_service("controller", kubeconfig=str(kubeconfig))
        yield Doomed(countersign, interposer)
        for name in ("controller", "standby"):
            if name in countersign.services:
                countersign.stop(name)
        countersign.start_service("controller")


@pytest.fixture
def scene(countersign: Installation) -> Governed:
    return govern(countersign)


STEPS = [
    pytest.param("POST", GRANTS, 1, id="the grant is made"),
    pytest.param("PATCH", "/status", 1, id="the grant becomes Active"),
    pytest.param("PATCH", "/status", 2, id="the grant becomes Revoked"),
]


@pytest.mark.parametrize("follower", ["restarted", "stood-by"])
@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize(("method", "path_ends", "nth"), STEPS)
def test_whoever_follows_ends_up_the_same(
    scene: Governed, doomed: Doomed, method: str, path_ends: str, nth: int, fate: Fate, follower: str
) -> None:
    countersign = scene.countersign
    if follower == "stood-by":
        countersign.start_service("controller", key="standby")
    doomed.dies(scene.namespace, method, path_ends, fate, nth=nth)
    pod = scene.node.run(scene.admitted())
    if nth == 2:
        until(countersign, pod, ("Active", "Admitted"))
        scene.node.finish(pod)
        doomed.await_death()
    else:
        doomed.await_death()
        scene.node.finish(pod)
    if follower == "restarted":
        countersign.start_service("controller")
    until(countersign, pod, ("Revoked", "Completed"))
    (grant,) = grants(countersign, scene.namespace, pod["metadata"]["uid"])
    assert not grant["metadata"]["name"].startswith("refused-")
    # The next pod of the same namespace is served as ever: nothing that was half done stands in its way.
    after = scene.running()
    assert scene.active(scene.token(after))


@pytest.mark.parametrize("fate", ["before", "after"])
def test_an_end_is_told_once(scene: Governed, doomed: Doomed, fate: Fate) -> None:
    """The state is written before it is told, so that a death in between tells nothing rather than twice."""
    pod = scene.running()
    doomed.dies(scene.namespace, "PATCH", "/status", fate)
    scene.node.finish(pod)
    doomed.await_death()
    scene.countersign.start_service("controller")
    until(scene.countersign, pod, ("Revoked", "Completed"))
    (first,) = grants(scene.countersign, scene.namespace, pod["metadata"]["uid"])
    scene.countersign.stop("controller")
    scene.countersign.start_service("controller")
    another = scene.running()
    assert state(scene.countersign, another) == ("Active", "Admitted")
    (second,) = grants(scene.countersign, scene.namespace, pod["metadata"]["uid"])
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"], "it was written again"
    path = f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events"
    events = scene.lab.admin.get(path, expect=200).body["items"]
    mine = [one for one in events if one["regarding"].get("uid") == pod["metadata"]["uid"]]
    assert len([one for one in mine if one["reason"] == "Completed"]) == (1 if fate == "before" else 0)
