"""A node that falls silent: its containers run on, and nobody knows what they do.

With the kubelet stopped there is no exec, and the cluster takes the node's pods out of its Services. So these tests ask
the verifier at the address of its pod. Three policies: the default waits 300 s, one suspends after 30 s, one keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

import pytest

from countersign.api.names import CA_CONFIGMAP, VERIFIER_AUDIENCE
from tests.e2e.cluster import Cluster, is_ready
from tests.e2e.scene import PROGRAM, VERIFIER_HOST, NewScene, Scene
from tests.lab.http import HttpClient
from tests.stack.installation import introspect
from tests.stack.objects import Object

SILENCE_SECONDS = 60
"""Until the node controller calls the node's state unknown; 20 s and a look every 2 s in the lab."""
PATIENCE_SECONDS = 30
"""The shortest nodeLostAfterSeconds."""


class Verifier:
    """The verifier by the address of its pod, and a token of the relying party to ask with."""

    def __init__(self, scene: Scene) -> None:
        release, cluster = scene.release, scene.cluster
        authority = cluster.get(f"/api/v1/namespaces/{release.namespace}/configmaps/{CA_CONFIGMAP}")
        self.client = HttpClient(
            f"https://{release.service('verifier')[0]['status']['podIP']}:8443",
            ca_data=authority["data"]["ca.crt"],
            server_name=VERIFIER_HOST,
        )
        path = f"/api/v1/namespaces/{scene.ledger.namespace}/serviceaccounts/api/token"
        wanted = {"spec": {"audiences": [VERIFIER_AUDIENCE], "expirationSeconds": 600}}
        self._asker = str(cluster.api.post(path, wanted, expect=201).body["status"]["token"])

    def active(self, token: str) -> bool:
        answer = introspect(self.client, token, self._asker)
        assert answer.ok, f"{answer.status} {answer.message}"
        return bool(answer.body["active"])


class Silence:
    """Pods of a node whose kubelet has been stopped: what they were, and their tokens."""

    def __init__(self, scene: Scene, suspending: Scene, keeping: Scene) -> None:
        self.waiting, self.deleted = scene.start(scene.pod("waiting")), scene.start(scene.pod("deleted"))
        self.suspended, self.kept = suspending.start(suspending.pod("suspended")), keeping.start(keeping.pod("kept"))
        self.grants = {name(pod): by.grant(pod, "Active") for by, pod in self._all(scene, suspending, keeping)}
        self.tokens = {name(pod): by.token(pod) for by, pod in self._all(scene, suspending, keeping)}
        self.verifier = Verifier(scene)
        assert all(self.verifier.active(token) for token in self.tokens.values())

    def _all(self, scene: Scene, suspending: Scene, keeping: Scene) -> list[tuple[Scene, Object]]:
        return [(scene, self.waiting), (scene, self.deleted), (suspending, self.suspended), (keeping, self.kept)]


@pytest.fixture(scope="module")
def suspending(new_scene: NewScene) -> Scene:
    """A namespace whose policy waits 30 s for a silent node."""
    return new_scene(responses={"nodeLost": "Suspend", "nodeLostAfterSeconds": PATIENCE_SECONDS})


@pytest.fixture(scope="module")
def keeping(new_scene: NewScene) -> Scene:
    """A namespace whose policy lets identities outlast their node's silence."""
    return new_scene(responses={"nodeLost": "Keep", "nodeLostAfterSeconds": PATIENCE_SECONDS})


@pytest.fixture(scope="module")
def silence(lab_cluster: Cluster, scene: Scene, suspending: Scene, keeping: Scene) -> Iterator[Silence]:
    """The node is silent while the tests of this module run, and back afterwards."""
    machine = lab_cluster.machine
    assert machine
    before = Silence(scene, suspending, keeping)
    machine.kubelet.stop()
    try:
        lab_cluster.wait(partial(_is, lab_cluster, "Unknown"), what="the node is lost", seconds=SILENCE_SECONDS)
        yield before
    finally:
        if not machine.kubelet.process.running:
            machine.kubelet.start()
        lab_cluster.wait(partial(_is, lab_cluster, "True"), what="the node is back", seconds=SILENCE_SECONDS)


def state_of(grant: Object) -> Object:
    """Its status without how its tokens are used."""
    return {member: value for member, value in grant["status"].items() if member != "uses"}


def test_a_pod_of_a_silent_node_has_its_identity_while_the_policy_waits(scene: Scene, silence: Silence) -> None:
    # Its containers may well run and serve.
    def out_of_service() -> bool:
        return not is_ready(scene.cluster.pod(scene.namespace, "waiting"))

    scene.cluster.wait(out_of_service, what="the node controller calls its pods not ready")
    assert scene.cluster.pod(scene.namespace, "waiting")["status"]["phase"] == "Running"
    assert silence.verifier.active(silence.tokens["waiting"])
    assert silence.verifier.active(silence.tokens["suspended"])
    assert state_of(scene.grant(silence.waiting)) == state_of(silence.grants["waiting"])


def test_a_pod_deleted_on_a_lost_node_has_no_identity_once_its_grace_is_over(scene: Scene, silence: Silence) -> None:
    scene.cluster.delete(silence.deleted, gracePeriodSeconds=3)
    assert silence.verifier.active(silence.tokens["deleted"])
    scene.cluster.wait(lambda: not silence.verifier.active(silence.tokens["deleted"]), what="inactive", seconds=10)
    scene.grant(silence.deleted, "Revoked", "Deleted")
    # Nobody tells the API server that its containers are gone, so the object waits for its kubelet.
    assert scene.cluster.pod(scene.namespace, "deleted")["metadata"]["uid"] == silence.deleted["metadata"]["uid"]


def test_a_policy_that_suspends_does_so_when_its_time_is_over(
    lab_cluster: Cluster, suspending: Scene, silence: Silence
) -> None:
    suspended = suspending.grant(silence.suspended, "Suspended", "NodeLost", seconds=PATIENCE_SECONDS + 10)["status"]
    changed = since(lab_cluster)
    assert f"has not been Ready since {changed}" in suspended["message"]
    silent = seconds_between(changed, suspended["changedAt"])
    print(f"\nsuspended {silent:.0f} s after the node's state became unknown")
    assert silent >= PATIENCE_SECONDS
    assert not silence.verifier.active(silence.tokens["suspended"])


def test_meanwhile_other_policies_keep_what_they_promise(scene: Scene, keeping: Scene, silence: Silence) -> None:
    for by, pod in ((scene, silence.waiting), (keeping, silence.kept)):
        assert state_of(by.grant(pod)) == state_of(silence.grants[name(pod)])
        assert silence.verifier.active(silence.tokens[name(pod)])


def test_when_the_node_is_back_its_pods_go_on_with_the_same_grants(
    lab_cluster: Cluster, scene: Scene, suspending: Scene, keeping: Scene, silence: Silence
) -> None:
    assert lab_cluster.machine
    lab_cluster.machine.kubelet.start()
    lab_cluster.wait(partial(_is, lab_cluster, "True"), what="the node is back", seconds=SILENCE_SECONDS)
    suspending.grant(silence.suspended, "Active", "QualifiesAgain")
    scene.cluster.gone(silence.deleted)
    for by, pod in ((scene, silence.waiting), (suspending, silence.suspended), (keeping, silence.kept)):
        by.cluster.wait(partial(_is_served, by, pod), what=f"{name(pod)} is served", seconds=60)
        assert by.grant(pod, "Active")["metadata"]["uid"] == silence.grants[name(pod)]["metadata"]["uid"]
    assert not silence.verifier.active(silence.tokens["deleted"])


def name(pod: Object) -> str:
    """Its name."""
    return str(pod["metadata"]["name"])


def since(cluster: Cluster) -> str:
    """When the node's Ready condition became what it is, as the API writes times."""
    return str(_condition(cluster)["lastTransitionTime"])


def seconds_between(earlier: str, later: str) -> float:
    """Of two times as the API writes them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _is_served(scene: Scene, pod: Object) -> bool:
    if scene.cluster.try_kubectl("exec", name(pod), "-n", scene.namespace, "--", PROGRAM, "stat", PROGRAM).returncode:
        return False  # the kubelet does not know its pods yet
    return scene.ask(pod).active


def _is(cluster: Cluster, status: str) -> bool:
    return str(_condition(cluster)["status"]) == status


def _condition(cluster: Cluster) -> Object:
    """The node's Ready condition."""
    [node] = cluster.items("/api/v1/nodes")
    conditions: list[Object] = node["status"]["conditions"]
    return next(one for one in conditions if one["type"] == "Ready")
