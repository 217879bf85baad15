"""The chart's RBAC is enough for the services, and the audit log of the API server says so."""

from collections.abc import Iterator

import pytest

from tests.lab.audit import Event
from tests.stack import objects
from tests.stack.governed import Governed
from tests.stack.objects import collection_path

SERVICES = ("gate", "controller", "verifier")


def refusals(governed: Governed) -> list[tuple[str, str, str]]:
    """(user, verb, URI) of whatever RBAC kept from a service of ours."""
    namespace = governed.countersign.namespace
    users = {f"system:serviceaccount:{namespace}:countersign-{name}" for name in SERVICES}

    def refused(event: Event) -> bool:
        # Not what a guard or a quota refused: that is said after RBAC has allowed it.
        forbidden = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        ours = event["user"].get("username") in users and forbidden
        # Pull secrets may be read only where an admin said so; elsewhere the gate asks the registry as anybody.
        return ours and event["objectRef"].get("resource") != "secrets"

    return [(e["user"]["username"], e["verb"], e["requestURI"]) for e in governed.lab.audit_events(refused)]


@pytest.fixture
def bound(governed: Governed) -> Iterator[Governed]:
    """A second policy, that makes gate and controller read the chain of owners."""
    policy = objects.trust_policy(
        "bound",
        governed.namespace,
        mode="Audit",
        images=[objects.image_rule(["registry.example.com/**"], digests=["sha256:" + "a" * 64])],
        unmatchedImages="Allow",
        binding={"controllers": [{"apiGroup": "apps", "kind": "Deployment", "name": "api"}]},
    )
    governed.countersign.declare(policy)
    yield governed
    governed.lab.admin.delete(objects.object_path(policy))


def test_no_service_asks_for_more_than_it_may(bound: Governed) -> None:
    lab = bound.lab
    before = refusals(bound)  # other tests take permissions away
    # A Deployment, whose pods need their owners; a pod that holds a token, is judged at use, and ends; an order.
    spec = objects.pod_spec(objects.container(bound.image.by_tag), service_account="worker")
    deployment = objects.deployment("api", bound.namespace, spec)
    lab.admin.post(collection_path(deployment), deployment, expect=201)
    (replica,) = lab.pods(bound.namespace, "app=api", count=1)
    bound.countersign.grant_of(replica)
    pod = bound.running()
    token = bound.token(pod)
    assert bound.active(token)
    bound.node.finish(pod)
    bound.await_inactive(token)
    bound.countersign.grant_of(pod, state="Revoked")
    order = objects.revocation(bound.namespace, {"pod": {"name": replica["metadata"]["name"]}})
    lab.admin.post(collection_path(order), order, expect=201)
    bound.countersign.grant_of(replica, state="Revoked")
    # Somebody goes into a pod.
    entered = bound.running()
    path = f"{bound.pods}/{entered['metadata']['name']}/exec"
    bound.edit.request("POST", path, query={"command": "sh"})
    bound.countersign.grant_of(entered, state="Revoked")
    # A restarted controller takes over the Lease, certificates and webhook configurations that are there.
    bound.countersign.stop("controller")
    bound.countersign.start_service("controller")
    bound.active(token)
    assert refusals(bound) == before
