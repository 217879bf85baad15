"""A node that falls silent: its containers run on, and nobody knows what they do.

With the kubelet stopped there is no exec, and the cluster takes the node's pods out of its Services. So these tests ask
the verifier at the address of its pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from countersign.api.names import CA_CONFIGMAP, VERIFIER_AUDIENCE
from tests.e2e.cluster import Cluster, is_ready
from tests.e2e.scene import PROGRAM, VERIFIER_HOST, Scene
from tests.lab.http import HttpClient
from tests.stack.installation import introspect
from tests.stack.objects import Object

SILENCE_SECONDS = 60
"""Until the node controller calls the node's state unknown; 20 s and a look every 2 s in the lab."""


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
    """Two pods of a node whose kubelet has been stopped: what they were, and their tokens."""

    def __init__(self, scene: Scene) -> None:
        self.kept, self.deleted = scene.start(scene.pod("kept")), scene.start(scene.pod("deleted"))
        self.grant = scene.grant(self.kept, "Active")
        self.tokens = {pod["metadata"]["name"]: scene.token(pod) for pod in (self.kept, self.deleted)}
        self.verifier = Verifier(scene)
        assert all(self.verifier.active(token) for token in self.tokens.values())


@pytest.fixture(scope="module")
def silence(lab_cluster: Cluster, scene: Scene) -> Iterator[Silence]:
    """The node is silent while the tests of this module run, and back afterwards."""
    machine = lab_cluster.machine
    assert machine
    before = Silence(scene)
    machine.kubelet.stop()
    try:
        lab_cluster.wait(lambda: _condition(lab_cluster) == "Unknown", what="the node is lost", seconds=SILENCE_SECONDS)
        yield before
    finally:
        if not machine.kubelet.process.running:
            machine.kubelet.start()
        lab_cluster.wait(lambda: _condition(lab_cluster) == "True", what="the node is back", seconds=SILENCE_SECONDS)


def test_a_pod_of_a_lost_node_keeps_its_identity(scene: Scene, silence: Silence) -> None:
    # Its containers may well run and serve; a policy that would rather not guess is another test's matter.
    def out_of_service() -> bool:
        return not is_ready(scene.cluster.pod(scene.namespace, "kept"))

    scene.cluster.wait(out_of_service, what="the node controller calls its pods not ready")
    assert scene.cluster.pod(scene.namespace, "kept")["status"]["phase"] == "Running"
    assert silence.verifier.active(silence.tokens["kept"])
    assert scene.grant(silence.kept)["status"] == silence.grant["status"]


def test_a_pod_deleted_on_a_lost_node_has_no_identity_once_its_grace_is_over(scene: Scene, silence: Silence) -> None:
    scene.cluster.delete(silence.deleted, gracePeriodSeconds=3)
    assert silence.verifier.active(silence.tokens["deleted"])
    scene.cluster.wait(lambda: not silence.verifier.active(silence.tokens["deleted"]), what="inactive", seconds=10)
    scene.grant(silence.deleted, "Revoked", "Deleted")
    # Nobody tells the API server that its containers are gone, so the object waits for its kubelet.
    assert scene.cluster.pod(scene.namespace, "deleted")["metadata"]["uid"] == silence.deleted["metadata"]["uid"]


def test_when_the_node_is_back_its_pods_go_on_with_the_same_grants(
    lab_cluster: Cluster, scene: Scene, silence: Silence
) -> None:
    assert lab_cluster.machine
    lab_cluster.machine.kubelet.start()
    lab_cluster.wait(lambda: _condition(lab_cluster) == "True", what="the node is back", seconds=SILENCE_SECONDS)
    scene.cluster.gone(silence.deleted)
    scene.cluster.wait(partial(_is_served, scene, silence.kept), what="the workload is served", seconds=60)
    assert scene.grant(silence.kept, "Active")["metadata"]["uid"] == silence.grant["metadata"]["uid"]
    assert not silence.verifier.active(silence.tokens["deleted"])


def _is_served(scene: Scene, pod: Object) -> bool:
    if scene.cluster.try_kubectl("exec", "kept", "-n", scene.namespace, "--", PROGRAM, "stat", PROGRAM).returncode:
        return False  # the kubelet does not know its pods yet
    return scene.ask(pod).active


def _condition(cluster: Cluster) -> str:
    """The status of the node's Ready condition."""
    [node] = cluster.items("/api/v1/nodes")
    conditions: list[Object] = node["status"]["conditions"]
    return next(str(one["status"]) for one in conditions if one["type"] == "Ready")
