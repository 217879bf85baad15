"""Invariant 7: losing any of ours loses no data and lets nobody in; losing all stops no deletion, no Job, no drain."""

from collections.abc import Iterator

import pytest

from tests.stack import objects
from tests.stack.governed import Governed
from tests.stack.installation import Installation


@pytest.fixture
def without_services(governed: Governed) -> Iterator[Installation]:
    """Every process of ours is gone; the webhook configurations stand."""
    countersign = governed.countersign
    for name in list(countersign.services):
        countersign.kill(name)
    yield countersign
    countersign.start_all()


def test_with_everything_of_ours_gone_the_clusters_own_life_goes_on(
    governed: Governed, without_services: Installation
) -> None:
    lab = governed.lab
    refused = governed.create()
    assert refused.status >= 500, "a governed pod is refused while no gate answers"
    assert "countersign" in refused.message
    elsewhere = lab.create_namespace(f"{governed.namespace}-elsewhere")
    free = objects.pod("free", elsewhere, objects.pod_spec(objects.container("docker.io/library/busybox:latest")))
    assert lab.admin.post(f"/api/v1/namespaces/{elsewhere}/pods", free).status == 201


def test_a_job_finishes_and_its_pod_vanishes_while_the_gate_is_gone(governed: Governed) -> None:
    lab = governed.lab
    jobs = f"/apis/batch/v1/namespaces/{governed.namespace}/jobs"
    job = objects.job("finishing", governed.namespace, governed.pod()["spec"])
    governed.edit.post(jobs, job, expect=201)
    pod = governed.node.run(lab.pods(governed.namespace, "app=finishing", count=1)[0])
    token = governed.token(pod)
    lab.wait_for(lambda: governed.active(token), what="the Job's token is active")
    governed.countersign.kill("gate")
    try:
        governed.node.finish(pod)
        governed.await_inactive(token)
        lab.wait_for(
            lambda: lab.admin.get(f"{jobs}/finishing").body.get("status", {}).get("succeeded") == 1,
            what="the Job controller counts its pod and removes its finalizer",
        )
        lab.admin.delete(f"{jobs}/finishing", {"propagationPolicy": "Background"}, expect=200)
        lab.wait_for(
            lambda: lab.admin.get(f"{governed.pods}/{pod['metadata']['name']}").status == 404, what="the pod vanishes"
        )
    finally:
        governed.countersign.start_service("gate")


def test_running_pods_keep_their_tokens_fresh_while_the_gate_is_gone(governed: Governed) -> None:
    pod = governed.running()
    governed.countersign.kill("gate")
    try:
        assert governed.node.request_token(pod, governed.audience, expiration_seconds=600).status == 201
    finally:
        governed.countersign.start_service("gate")


def test_deletion_status_and_eviction_need_none_of_ours(governed: Governed) -> None:
    lab = governed.lab
    pod, evicted = governed.running(), governed.running()
    countersign = governed.countersign
    for name in list(countersign.services):
        countersign.kill(name)
    try:
        governed.node.patch_status(pod, {"message": "still writable"})
        name = pod["metadata"]["name"]
        lab.admin.delete(f"{governed.pods}/{name}", query={"gracePeriodSeconds": "0"}, expect=200)
        governed.node.remove(pod)
        lab.wait_for(lambda: lab.admin.get(f"{governed.pods}/{name}").status == 404, what="the pod is gone")
        eviction = {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": evicted["metadata"]["name"], "namespace": governed.namespace},
        }  # fmt: skip
        path = f"{governed.pods}/{evicted['metadata']['name']}/eviction"
        assert lab.admin.post(path, eviction).status == 201
    finally:
        countersign.start_all()


def test_a_namespace_with_grants_can_be_deleted(governed: Governed) -> None:
    lab = governed.lab
    doomed = lab.create_namespace(f"{governed.namespace}-doomed", {"governed-by": governed.namespace})
    pod = objects.pod("last", doomed, objects.pod_spec(objects.container(governed.image.by_tag)))
    made = lab.admin.post(f"/api/v1/namespaces/{doomed}/pods", pod, expect=201).body
    governed.countersign.grant_of(made)
    lab.admin.delete(f"/api/v1/namespaces/{doomed}", expect=200)
    lab.wait_for(
        lambda: lab.admin.get(f"/api/v1/namespaces/{doomed}").status == 404, what="the namespace is gone", timeout=60
    )
