"""The lab is what it says: RBAC and the node authorizer decide, the registries differ, cosign's signatures verify."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.cosign import CosignError, Form, KeyPair
from tests.lab.images import MANIFEST, ImageSpec
from tests.lab.lab import Lab
from tests.lab.registries import Registry

AUDIENCE = "vault"


def pod_with_token(name: str, audience: str = AUDIENCE) -> dict[str, Any]:
    source = {"serviceAccountToken": {"audience": audience, "expirationSeconds": 600, "path": "token"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "app", "image": "registry.example.com/app:v1"}],
            "volumes": [{"name": "identity", "projected": {"sources": [source]}}],
        },
    }


def create_pod(lab: Lab, namespace: str, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = lab.admin.post(f"/api/v1/namespaces/{namespace}/pods", pod_with_token(name), expect=201).body
    return pod


def test_rbac_refuses_a_stranger_and_admits_an_editor(lab: Lab, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    assert lab.api("stranger").get(path).status == 403
    lab.grant_role(namespace, "dev", "edit")
    lab.wait_for(lambda: lab.api("dev").get(path).ok, what="the role binding is in force", timeout=5)


def test_the_audit_log_names_who_did_what(lab: Lab, namespace: str) -> None:
    create_pod(lab, namespace, "seen")
    event = lab.audit.wait(verb="create", resource="pods", namespace=namespace, user="lab-admin")
    assert event["responseStatus"]["code"] == 201
    assert event["requestObject"]["metadata"]["name"] == "seen"


def test_the_audit_log_holds_no_token(lab: Lab, namespace: str) -> None:
    lab.service_account_token(namespace, "default")
    event = lab.audit.wait(resource="serviceaccounts", subresource="token", namespace=namespace)
    assert event["level"] == "Metadata"


def test_a_node_gets_tokens_for_the_pods_bound_to_it_only(lab: Lab, namespace: str) -> None:
    n1, n2 = lab.node("n1"), lab.node("n2")
    pod = create_pod(lab, namespace, "mine")
    assert n1.request_token(pod, AUDIENCE).status == 403
    pod = n1.run(pod)
    assert n1.token(pod, AUDIENCE).count(".") == 2
    assert n2.request_token(pod, AUDIENCE).status == 403


def test_a_node_gets_no_audience_that_the_pod_does_not_project(lab: Lab, namespace: str) -> None:
    pod = lab.node().run(create_pod(lab, namespace, "other"))
    answer = lab.node().request_token(pod, "ledger")
    assert answer.status == 403
    assert "not found in pod spec volume" in answer.message


def test_a_pod_runs_ends_and_goes(lab: Lab, namespace: str) -> None:
    node = lab.node()
    pod = node.run(create_pod(lab, namespace, "short"))
    assert pod["status"]["phase"] == "Running"
    assert node.finish(pod)["status"]["phase"] == "Succeeded"
    lab.admin.delete(f"/api/v1/namespaces/{namespace}/pods/short")
    node.remove(pod)
    lab.wait_for(lambda: lab.admin.get(f"/api/v1/namespaces/{namespace}/pods/short").status == 404, what="pod is gone")


def test_the_controllers_make_a_deployments_pods(lab: Lab, namespace: str) -> None:
    lab.kubectl("create", "deployment", "web", "--image=registry.example.com/web:v1", "--replicas=2", "-n", namespace)
    pods = lab.pods(namespace, "app=web", count=2)
    assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods} == {"ReplicaSet"}


def test_kubectl_is_the_user_that_the_test_names(lab: Lab) -> None:
    assert "dev" in lab.kubectl("auth", "whoami", as_=("dev", ["team"]))


def test_a_service_account_kubeconfig_is_that_account(lab: Lab, namespace: str) -> None:
    kubeconfig = lab.service_account_kubeconfig(namespace, "default")
    assert f"system:serviceaccount:{namespace}:default" in lab.kubectl("auth", "whoami", kubeconfig=kubeconfig)


@pytest.mark.parametrize(("kind", "status"), [("referrers", 200), ("plain", 404)])
def test_one_registry_has_the_referrers_api_and_one_has_not(lab: Lab, kind: str, status: int) -> None:
    registry = lab.registry(kind)
    image = registry.repository("lab/api").push("v1")
    assert registry.http.get(f"/v2/lab/api/referrers/{image.digest}").status == status


def test_the_private_registry_wants_a_password(lab: Lab) -> None:
    registry = lab.registry("private")
    image = registry.repository("lab/private").push("v1")
    path = f"/v2/lab/private/manifests/{image.digest}"
    assert registry.http.get(path, headers={"Accept": MANIFEST}).ok
    assert registry.http.request("GET", path, headers={"Authorization": ""}).status == 401


def test_a_tag_moves_and_the_digest_stays(referrers_registry: Registry) -> None:
    repository = referrers_registry.repository("lab/moving")
    first = repository.push("v1", ImageSpec.distinct("first"))
    second = repository.push("v2", ImageSpec.distinct("second"))
    assert first.digest != second.digest
    repository.move_tag("v1", second)
    assert repository.get_manifest("v1") == repository.get_manifest(second.digest)
    assert repository.get_manifest(first.digest) != repository.get_manifest("v1")


def test_an_index_names_each_platform(plain_registry: Registry) -> None:
    index = plain_registry.repository("lab/multi").push_index(
        "v1", {"amd64": ImageSpec.distinct("a"), "arm64": ImageSpec.distinct("b")}
    )
    listed = plain_registry.http.get(
        f"/v2/lab/multi/manifests/{index.digest}", headers={"Accept": index.media_type}
    ).body
    assert [entry["platform"]["architecture"] for entry in listed["manifests"]] == ["amd64", "arm64"]


@pytest.fixture(scope="module")
def keys(lab: Lab) -> tuple[KeyPair, KeyPair]:
    return lab.cosign.generate_key("lab-right"), lab.cosign.generate_key("lab-wrong")


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("referrers", Form.BUNDLE),
        ("plain", Form.BUNDLE),
        ("plain", Form.CLASSIC),
        ("private", Form.BUNDLE),
        ("insecure", Form.CLASSIC),
    ],
)
def test_cosign_signs_and_only_the_right_key_verifies(
    lab: Lab, keys: tuple[KeyPair, KeyPair], kind: str, form: Form
) -> None:
    right, wrong = keys
    registry = lab.registry(kind)
    image = registry.repository(f"lab/signed-{form}").push("v1")
    lab.cosign.sign(registry, image, right, form=form)
    lab.cosign.verify(registry, image, right, form=form)
    with pytest.raises(CosignError):
        lab.cosign.verify(registry, image, wrong, form=form)


def test_where_a_bundle_lies_depends_on_the_registry(lab: Lab, keys: tuple[KeyPair, KeyPair]) -> None:
    repositories = {}
    for kind in ("referrers", "plain"):
        registry = lab.registry(kind)
        repositories[kind] = registry.repository("lab/where")
        lab.cosign.sign(registry, repositories[kind].push("v1"), keys[0])
    fallback = repositories["plain"].push("v1").digest.replace(":", "-")
    assert fallback in repositories["plain"].tags()
    assert repositories["referrers"].tags() == ["v1"]
