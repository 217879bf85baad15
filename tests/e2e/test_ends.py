"""How an identity ends with its instance, seen from the relying party while real containers come and go."""

from __future__ import annotations

import pytest

from tests.e2e.scene import PROGRAM, NewScene, Scene
from tests.stack import objects
from tests.stack.objects import Object

SLOW = ("work", "-linger", "8s", "-every", "250ms")
"""A program that takes its time to end."""
GRACE = 20


@pytest.fixture(scope="module")
def immediate(new_scene: NewScene) -> Scene:
    """A namespace whose policy ends an identity with the request to delete its pod."""
    return new_scene(onTermination="Immediate")


@pytest.fixture(scope="module")
def short_drain(new_scene: NewScene) -> Scene:
    """A namespace whose policy leaves an identity four seconds of a pod's grace period."""
    return new_scene(onTermination="GracePeriod", drainSeconds=4)


def test_a_completed_job_has_no_identity_while_its_pod_object_stays(scene: Scene) -> None:
    scene.create(objects.job("batch", scene.namespace, scene.spec("work", "-for", "4s", "-every", "500ms")))
    pod = scene.pod_of("batch")
    token = scene.token(pod)
    assert scene.ledger.ask(token).active
    scene.cluster.phase(pod, "Succeeded")
    scene.inactive(token)
    scene.grant(pod, "Revoked", "Completed")
    assert any(line.startswith("200 ") for line in scene.cluster.logs(pod).splitlines())
    assert scene.cluster.pod(scene.namespace, pod["metadata"]["name"])["metadata"]["uid"] == pod["metadata"]["uid"]


def test_a_failed_job_has_no_identity(scene: Scene) -> None:
    scene.create(objects.job("fails", scene.namespace, scene.spec("work", "-for", "2s", "-exit", "4")))
    pod = scene.pod_of("fails")
    token = scene.token(pod)
    scene.cluster.phase(pod, "Failed")
    scene.inactive(token)
    scene.grant(pod, "Revoked", "Failed")


def test_a_deleted_pod_keeps_its_identity_while_its_container_ends(scene: Scene) -> None:
    pod = scene.start(scene.pod("drains", "work", "-linger", "5s", terminationGracePeriodSeconds=GRACE))
    token = scene.token(pod)
    scene.cluster.delete(pod)
    scene.cluster.pause(2)
    assert _is_still_running(scene, pod)
    assert scene.ledger.ask(token).active
    scene.cluster.gone(pod)
    assert not scene.ledger.ask(token).active
    scene.grant(pod, "Revoked", "Deleted")


def test_a_drain_takes_no_longer_than_the_policy_leaves_it(short_drain: Scene) -> None:
    pod = short_drain.start(short_drain.pod("drains", *SLOW, terminationGracePeriodSeconds=GRACE))
    token = short_drain.token(pod)
    short_drain.cluster.delete(pod)
    short_drain.cluster.pause(1)
    assert short_drain.ledger.ask(token).active
    short_drain.inactive(token)
    short_drain.grant(pod, "Revoked", "Deleted")
    assert _is_still_running(short_drain, pod)
    assert not short_drain.ask(pod).active
    short_drain.cluster.gone(pod)


def test_an_immediate_end_comes_while_the_container_still_runs(immediate: Scene) -> None:
    pod = immediate.start(immediate.pod("lingers", *SLOW, terminationGracePeriodSeconds=GRACE))
    token = immediate.token(pod)
    assert immediate.ledger.ask(token).active
    immediate.cluster.delete(pod)
    immediate.inactive(token, seconds=2)
    assert _is_still_running(immediate, pod)
    assert not immediate.ask(pod).active
    immediate.grant(pod, "Revoked", "Deleted")
    immediate.cluster.gone(pod)


def test_a_container_that_crashes_restarts_with_the_same_grant(scene: Scene) -> None:
    pod = scene.start(scene.pod("crashes", "work"))
    token, grant = scene.token(pod), scene.grant(pod, "Active")
    again = _crash(scene, pod)
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert scene.token(again) == token
    assert scene.ask(again).active
    assert scene.grant(again, "Active")["metadata"]["uid"] == grant["metadata"]["uid"]


def test_a_container_of_a_revoked_pod_restarts_without_an_identity(scene: Scene) -> None:
    pod = scene.start(scene.pod("revoked", "work"))
    token = scene.token(pod)
    scene.revoke(pod)
    scene.inactive(token)
    again = _crash(scene, pod)
    assert scene.token(again) == token  # the kubelet serves what it has
    assert scene.ask(again).status == 403
    scene.grant(again, "Revoked", "RevokedByOrder")


def _is_still_running(scene: Scene, pod: Object) -> bool:
    now = scene.cluster.pod(scene.namespace, pod["metadata"]["name"])
    return bool(now and _state(now)["state"].get("running") and "deletionTimestamp" in now["metadata"])


def _crash(scene: Scene, pod: Object) -> Object:
    """Crash the pod's container, and wait until the kubelet has it running again."""
    before = _state(scene.cluster.pod(scene.namespace, pod["metadata"]["name"]))["restartCount"]
    # The exec'd process dies with its container, and may be killed before it has told its end.
    scene.cluster.try_exec(pod, PROGRAM, "crash")

    def restarted() -> Object | None:
        now: Object = scene.cluster.pod(scene.namespace, pod["metadata"]["name"])
        state = _state(now)
        return now if state["restartCount"] > before and state["state"].get("running") else None

    now = dict(scene.cluster.wait(restarted, what="the container runs again", seconds=40))
    assert _state(now)["lastState"]["terminated"]["exitCode"] == 3
    return now


def _state(pod: Object) -> Object:
    return dict(pod["status"]["containerStatuses"][0])
