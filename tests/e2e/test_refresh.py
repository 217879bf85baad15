"""What a kubelet does when the refresh of a token is refused, and what a relying party sees of it: nothing but no.

A kubelet keeps each token that it fetched and asks for another at 80 % of its lifetime (pkg/kubelet/token,
requiresRefresh). Refused, it logs that and serves what it has until that expires; only then does the refusal reach the
pod's events. A kubelet that was restarted has nothing to serve, and shows the same at once.
"""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.scene import PROGRAM, Scene
from tests.stack.objects import Object

WHY = "the key leaked"
DOWN_SECONDS = 15
"""A kubelet restarts a container at once the first time."""
REFRESH_SECONDS = 480
"""80 % of a token's 600 s; the kubelet's jitter only brings it forward."""
JITTER_SECONDS = 15
LIFETIME = 600
SYNC_SECONDS = 150
"""A kubelet looks at a pod's volumes about once a minute, up to half as late again (pkg/kubelet/pod_workers.go)."""


@pytest.fixture(scope="module")
def forgetful(lab_cluster: Cluster, scene: Scene) -> Forgetful:
    """Two pods on a node whose kubelet was then restarted; the identity of one had been revoked before."""
    return Forgetful(lab_cluster, scene)


class Forgetful:
    """What the pods' files held before the kubelet lost its cache of tokens."""

    def __init__(self, cluster: Cluster, scene: Scene) -> None:
        self.healthy, self.revoked = scene.start(scene.pod("healthy")), scene.start(scene.pod("revoked"))
        self.before, self.spoilt = scene.token(self.healthy), scene.token(self.revoked)
        scene.revoke(self.revoked, WHY)
        scene.inactive(self.spoilt)
        assert not _refusals(scene, "revoked")
        assert cluster.machine
        cluster.machine.kubelet.restart()
        for pod in (self.healthy, self.revoked, scene.ledger.client):
            cluster.wait(partial(_answers, scene, pod), what="the kubelet knows its pods again", seconds=60)
        # Probes begin anew, and until they succeed the relying party and the verifier are out of their Services.
        cluster.wait(lambda: scene.ledger.ask(self.before).active, what="the relying party serves again", seconds=60)


def test_a_restarted_kubelet_gets_another_token_for_a_granted_pod(scene: Scene, forgetful: Forgetful) -> None:
    healthy = forgetful.healthy
    scene.cluster.wait(lambda: scene.token(healthy) != forgetful.before, what="another token", seconds=60)
    assert scene.ask(healthy).active
    assert scene.ledger.ask(forgetful.before).active  # the same instance's, and not expired
    assert not _refusals(scene, "healthy")


def test_a_restarted_kubelet_is_refused_for_a_revoked_pod_and_the_pods_events_say_why(
    scene: Scene, forgetful: Forgetful
) -> None:
    [event, *_] = scene.cluster.wait(lambda: _refusals(scene, "revoked") or None, what="an event", seconds=60)
    assert event.startswith('FailedMount: MountVolume.SetUp failed for volume "countersign-token-ledger"')
    assert "GrantNotActive" in event
    assert WHY in event
    assert scene.token(forgetful.revoked) == forgetful.spoilt
    assert scene.ask(forgetful.revoked).status == 403


def test_after_that_a_container_of_the_revoked_pod_that_crashes_stays_down(scene: Scene, forgetful: Forgetful) -> None:
    pod = forgetful.revoked
    scene.cluster.exec(pod, PROGRAM, "crash")
    # By exec: the kubelet waits two minutes for the volume, and only then writes the pod's status.
    scene.cluster.wait(lambda: not _answers(scene, pod), what="it is down", seconds=30)
    scene.cluster.pause(DOWN_SECONDS)
    assert not _answers(scene, pod)
    assert _restarts(scene, "revoked") == 0
    scene.cluster.delete(pod)
    scene.cluster.gone(pod)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_kubelet_refreshes_the_token_of_a_granted_pod_and_goes_on_serving_that_of_a_revoked_one(scene: Scene) -> None:
    healthy, revoked = scene.start(scene.pod("patient")), scene.start(scene.pod("spoilt"))
    begun = time.monotonic()
    before, spoilt = scene.token(healthy), scene.token(revoked)
    scene.revoke(revoked, WHY)
    scene.inactive(spoilt)

    scene.cluster.wait(
        lambda: scene.token(healthy) != before, what="the kubelet refreshes", seconds=REFRESH_SECONDS + SYNC_SECONDS
    )
    assert time.monotonic() - begun > REFRESH_SECONDS - JITTER_SECONDS
    assert scene.ask(healthy).active
    scene.cluster.pause(max(0.0, begun + REFRESH_SECONDS + 90 - time.monotonic()))
    assert scene.token(revoked) == spoilt
    assert scene.ask(revoked).status == 403
    assert not _refusals(scene, "spoilt"), "a kubelet only logs it while the old token has not expired"

    scene.cluster.wait(
        lambda: _refusals(scene, "spoilt") or None, what="the refusal is an event of the pod", seconds=SYNC_SECONDS + 60
    )
    [event, *_] = _refusals(scene, "spoilt")
    assert WHY in event
    assert scene.token(revoked) == spoilt
    assert scene.ask(revoked).status == 403
    assert scene.ask(healthy).active

    # The volume counts as mounted, with what it held last: its container still restarts.
    scene.cluster.exec(revoked, PROGRAM, "crash")
    scene.cluster.wait(partial(_runs_again, scene, "spoilt"), what="it runs again", seconds=60)
    assert scene.token(revoked) == spoilt
    assert scene.ask(revoked).status == 403


def _runs_again(scene: Scene, name: str) -> bool:
    state = scene.cluster.pod(scene.namespace, name)["status"]["containerStatuses"][0]["state"]
    return bool(state.get("running")) and _restarts(scene, name) > 0


def _restarts(scene: Scene, name: str) -> int:
    return int(scene.cluster.pod(scene.namespace, name)["status"]["containerStatuses"][0]["restartCount"])


def _answers(scene: Scene, pod: Object) -> bool:
    meta = pod["metadata"]
    command = ("exec", meta["name"], "-n", meta["namespace"], "-c", "app", "--", PROGRAM, "stat", PROGRAM)
    return scene.cluster.try_kubectl(*command).returncode == 0


def _refusals(scene: Scene, pod: str) -> list[str]:
    return [event for event in scene.cluster.events(scene.namespace, pod) if "countersign-token-ledger" in event]
