"""Install, a failed install, drain, uninstall and install again: one command each, and nobody is locked out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from countersign.api.names import SYSTEM_NAMESPACE, WEBHOOK_CONFIGURATION
from tests.e2e.own import Own, own_cluster
from tests.e2e.release import Release, merged
from tests.e2e.scene import QUICK_END, Ledger, Scene, workload
from tests.stack import objects
from tests.stack.objects import Object

SERVICES = ("gate", "controller", "verifier")
ONE_EACH = {name: {"replicas": 1} for name in SERVICES}
KINDS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
QUIET_SECONDS = 4.0
"""Longer than the controller's checks: what a controller that is ending would write anew would stand there by then."""


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """A cluster of its own: Countersign comes and goes on it."""
    with own_cluster() as made:
        yield made


@pytest.fixture(scope="module")
def prepared(own: Own) -> Release:
    """A release with one replica of each service, not installed yet."""
    return own.release(ONE_EACH)


@pytest.fixture(scope="module")
def failed(prepared: Release) -> Release:
    """An install of an image that is nowhere was tried, and Helm has taken it back."""
    nowhere = {"image": {"digest": "sha256:" + "0" * 64}}
    with pytest.raises(Exception, match=r"(?i)timeout|deadline|not ready|failed"):
        prepared.install(values=merged(prepared.values, nowhere), timeout=12, rollback_on_failure=True)
    return prepared


@pytest.fixture(scope="module")
def installed(failed: Release, own: Own) -> Release:
    """Installed by one command, which says that all is ready."""
    good = {"image": {"digest": own.image.partition("@")[2]}}
    failed.install(values=merged(failed.values, good))
    return failed


@pytest.fixture(scope="module")
def scene(own: Own, installed: Release) -> Scene:
    """A governed namespace."""
    return own.scene(installed, Ledger(own.cluster, installed, own.store))


def test_a_failed_install_leaves_nothing_and_locks_nobody_out(own: Own, failed: Release) -> None:
    cluster = own.cluster
    cluster.wait(lambda: not cluster.pods(SYSTEM_NAMESPACE), what="our pods are gone")
    assert not left_behind(own)
    assert not cluster.items(f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments")
    namespace = cluster.create_namespace("bystander")
    image = own.store.repository("e2e/bystander").push("v1", workload("bystander"))
    pod = objects.pod("free", namespace, objects.pod_spec(objects.container(image.by_tag, args=["work"]), **QUICK_END))
    cluster.phase(cluster.create(pod), "Running")


def test_an_install_ends_ready_with_restricted_pods(own: Own, installed: Release) -> None:
    namespace = own.cluster.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name in SERVICES:
        (pod,) = own.cluster.running(SYSTEM_NAMESPACE, f"app.kubernetes.io/component={name}", 1, seconds=1)
        assert restarts(pod) == 0


def test_no_webhook_fails_closed_before_a_policy_enforces(own: Own, installed: Release) -> None:
    own.cluster.wait(lambda: webhooks(own) is not None, what="the controller has written its configurations")
    assert "Fail" not in policies_of(webhooks(own) or [])


def test_helms_test_passes(installed: Release) -> None:
    installed.test()


def test_once_a_policy_enforces_it_fails_closed(own: Own, scene: Scene) -> None:
    own.cluster.wait(lambda: "Fail" in policies_of(webhooks(own) or []), what="what is enforced fails closed")
    assert "ImageUnsigned" in scene.denial(scene.pod("unsigned", image=scene.unsigned.by_tag))


def test_a_single_replica_does_not_block_a_drain(own: Own, installed: Release, scene: Scene) -> None:
    """Evictions by kubectl, as before a node is serviced; the pods come back once the node may be used."""
    cluster, node = own.cluster, own.lab.real_node.name
    before = {pod["metadata"]["uid"] for pod in cluster.pods(SYSTEM_NAMESPACE)}
    try:
        cluster.kubectl(
            *("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s"),
            "--pod-selector=app.kubernetes.io/part-of=countersign",
        )
    finally:
        cluster.kubectl("uncordon", node)
    for name in SERVICES:
        (pod,) = cluster.running(SYSTEM_NAMESPACE, f"app.kubernetes.io/component={name}", 1)
        assert pod["metadata"]["uid"] not in before
    # Gate and verifier are ready; API server and kube-proxy hear of it a moment later.
    cluster.wait(lambda: not scene.refusal(scene.pod("drained")), what="the API server reaches the gate again")
    drained = scene.start(scene.pod("drained"))
    cluster.wait(lambda: scene.ask(drained).active, what="its token is active")


def test_an_uninstall_leaves_nothing_revokes_nothing_and_a_new_install_goes_on(
    own: Own, installed: Release, scene: Scene
) -> None:
    cluster = own.cluster
    pod, leaver = scene.start(scene.pod("keeper")), scene.start(scene.pod("leaver"))
    token, grant = scene.token(pod), scene.grant(pod, "Active")
    assert scene.ledger.ask(token).active
    assert left_behind(own), "there is something to remove"

    installed.uninstall()
    cluster.wait(lambda: not left_behind(own), what="the garbage collector has followed")
    time.sleep(QUIET_SECONDS)
    assert not left_behind(own)
    assert same(scene.grant(pod, "Active"), grant), "nothing is revoked, and grants stay"
    assert cluster.pod(scene.namespace, "keeper")["status"]["phase"] == "Running"
    assert scene.ask(pod).status in (0, 503), "nobody answers for the verifier, so the relying party cannot tell"
    cluster.delete(leaver)
    cluster.gone(leaver)
    unjudged = scene.create(scene.pod("unjudged"))

    installed.install()
    scene.ledger.meet(installed)
    cluster.wait(lambda: scene.ledger.ask(token).active, what="the token from before is active again", seconds=60)
    assert same(scene.grant(pod, "Active"), grant)
    scene.grant(leaver, "Revoked", "Deleted")
    assert scene.grant(unjudged, "Revoked")["status"]["reason"] == "ReceiptMissing"
    cluster.wait(lambda: "Fail" in policies_of(webhooks(own) or []), what="what is enforced fails closed again")
    assert scene.ask(scene.start(scene.pod("after"))).active


def webhooks(own: Own) -> list[Object] | None:
    """Entries of both configurations; None if one is not there."""
    base = "/apis/admissionregistration.k8s.io/v1"
    found = [own.cluster.get(f"{base}/{kind}/{WEBHOOK_CONFIGURATION}") for kind in KINDS]
    return [entry for one in found for entry in one.get("webhooks", [])] if all(found) else None


def policies_of(entries: list[Object]) -> set[str]:
    """Their failure policies."""
    return {str(entry["failurePolicy"]) for entry in entries}


def left_behind(own: Own) -> list[str]:
    """What of ours is there and not one of Helm's objects."""
    base = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}"
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases"
    configurations = [f"/apis/admissionregistration.k8s.io/v1/{kind}" for kind in KINDS]
    found = [one for path in (f"{base}/secrets", leases, *configurations) for one in own.cluster.items(path)]
    return [name for one in found if "helm" not in (name := str(one["metadata"]["name"]))]


def same(one: Object, other: Object) -> bool:
    """Whether both are the same object."""
    return bool(one["metadata"]["uid"] == other["metadata"]["uid"])


def restarts(pod: Object) -> int:
    """How often the pod's container was started again."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])
