"""Admission end to end: real API server and controllers, real registry, images signed by the real cosign.

A developer writes ordinary objects; what the API server stores, and what people read, is what counts.
"""

import base64
import itertools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from countersign.api.names import RECEIPT_ANNOTATION
from tests.integration.sidecar_webhook import SidecarInjector
from tests.lab.cosign import Form
from tests.lab.http import Answer
from tests.lab.images import ImageSpec, PushedImage
from tests.render import render
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

_NUMBERS = itertools.count(1)


def _name() -> str:
    return f"app-{next(_NUMBERS)}"


def _apply(governed: Governed, obj: objects.Object) -> str:
    """What `kubectl apply` says to the edit user, warnings included."""
    done = governed.lab.try_kubectl("apply", "-f", "-", as_=governed.attacker, input_=json.dumps(obj))
    assert done.returncode == 0, done.stderr
    return done.stderr


def _deployment(governed: Governed, image: str, *, replicas: int = 1) -> objects.Object:
    spec = objects.pod_spec(objects.container(image), service_account="worker")
    return objects.deployment(_name(), governed.namespace, spec, replicas=replicas)


def _describe_replicasets(governed: Governed, name: str) -> str:
    return governed.lab.kubectl("describe", "replicaset", "-n", governed.namespace, "-l", f"app={name}")


def test_an_unsigned_deployment_is_warned_about_and_its_replicaset_says_why_no_pod_comes(governed: Governed) -> None:
    deployment = _deployment(governed, governed.unsigned.by_tag)
    name = deployment["metadata"]["name"]
    warned = _apply(governed, deployment)
    assert "Warning: pods of this template would be refused: ImageUnsigned: container app" in warned

    text = governed.lab.wait_for(
        lambda: (text := _describe_replicasets(governed, name)) and "FailedCreate" in text and text,
        what="the ReplicaSet says why",
    )
    line = next((line for line in text.splitlines() if "FailedCreate" in line and "denied the request: " in line), text)
    message = line.split("denied the request: ", 1)[1]
    assert message.startswith("ImageUnsigned: container app")
    for part in (governed.unsigned.by_tag, governed.policy["metadata"]["name"], "release", "Way out: sign the image"):
        assert part in message
    assert len(message) < 1000
    assert governed.lab.pods(governed.namespace, f"app={name}", count=0) == []


def test_a_signed_deployment_is_admitted_by_tag_and_its_pod_shows_digest_token_and_receipt(governed: Governed) -> None:
    deployment = _deployment(governed, governed.image.by_tag, replicas=2)
    assert "Warning" not in _apply(governed, deployment)
    pods = governed.lab.pods(governed.namespace, f"app={deployment['metadata']['name']}", count=2)
    receipts = set()
    for pod in pods:
        [container] = pod["spec"]["containers"]
        assert container["image"] == f"{governed.image.by_tag}@{governed.image.digest}"
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts["/var/run/secrets/countersign.dev/ledger"]["readOnly"] is True
        [variable] = container["env"]
        assert variable == {"name": "LEDGER_TOKEN_FILE", "value": "/var/run/secrets/countersign.dev/ledger/token"}
        [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == "countersign-token-ledger"]
        [source] = volume["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == governed.audience
        receipts.add(pod["metadata"]["annotations"][RECEIPT_ANNOTATION])
    assert len(receipts) == 2, "each instance has a receipt of its own"
    template = governed.lab.admin.get(objects.object_path(deployment), expect=200).body["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == governed.image.by_tag, "templates are never changed"


@pytest.mark.parametrize("form", list(Form))
def test_both_of_cosigns_formats_are_admitted(countersign: Installation, form: Form) -> None:
    governed = govern(countersign, form=form)
    assert governed.admitted()["spec"]["containers"][0]["image"].endswith(governed.image.digest)


def test_init_containers_sidecars_and_image_volumes_are_pinned_like_containers(governed: Governed) -> None:
    tag, pinned = governed.image.by_tag, f"{governed.image.by_tag}@{governed.image.digest}"
    pod = governed.pod(
        objects.container(tag),
        initContainers=[objects.container(tag, "init"), objects.container(tag, "side", restartPolicy="Always")],
        volumes=[{"name": "data", "image": {"reference": tag, "pullPolicy": "IfNotPresent"}}],
    )
    spec = governed.admitted(pod)["spec"]
    assert [one["image"] for one in (*spec["containers"], *spec["initContainers"])] == [pinned] * 3
    assert spec["volumes"][0]["image"]["reference"] == pinned


def test_what_the_api_server_stores_is_what_the_gate_meant(governed: Governed) -> None:
    # The receipt covers the spec's hash: the grant comes only if the stored pod still has it.
    pod = governed.admitted(
        governed.pod(tolerations=[{"key": "x", "operator": "Exists"}], terminationGracePeriodSeconds=5)
    )
    governed.countersign.grant_of(pod, state="Active")


def test_a_container_that_another_webhook_adds_afterwards_is_pinned_and_covered_by_the_receipt(
    governed: Governed,
) -> None:
    with _injecting(governed, governed.image) as injector:
        pod = governed.admitted(governed.pod(metadata={"labels": {"sidecar": "yes"}}))
        assert injector.calls >= 1
    images = {one["name"]: one["image"] for one in pod["spec"]["containers"]}
    assert images["injected"] == f"{governed.image.by_tag}@{governed.image.digest}"
    governed.countersign.grant_of(pod, state="Active")


def test_an_unsigned_container_that_another_webhook_adds_is_refused(governed: Governed) -> None:
    with _injecting(governed, governed.unsigned):
        answer = governed.create(governed.pod(metadata={"labels": {"sidecar": "yes"}}))
    assert answer.status == 403
    assert "ImageUnsigned: container injected" in answer.message


def test_a_server_side_dry_run_shows_the_pod_without_a_receipt_and_leaves_nothing(governed: Governed) -> None:
    answer = governed.create(governed.pod(), dryRun="All")
    assert answer.status == 201
    pod = answer.body
    assert pod["metadata"]["annotations"][RECEIPT_ANNOTATION] == "dry-run"
    assert pod["spec"]["containers"][0]["image"].endswith(governed.image.digest)
    path = f"{governed.pods}/{pod['metadata']['name']}"
    assert governed.lab.admin.get(path).status == 404


def test_an_image_put_into_a_running_pod_is_pinned_or_refused(governed: Governed) -> None:
    pod = governed.running()
    path = f"{governed.pods}/{pod['metadata']['name']}"
    refused = _patch(governed, path, _images(app=governed.unsigned.by_tag))
    assert refused.status == 403
    assert "ImageUnsigned: container app" in refused.message
    other = _push_signed(governed)
    done = _patch(governed, path, _images(app=other.by_tag))
    assert done.status == 200, done.message
    assert done.body["spec"]["containers"][0]["image"] == f"{other.by_tag}@{other.digest}"
    governed.countersign.grant_of(pod, state="Revoked")


def test_an_ephemeral_container_is_pinned_or_refused(governed: Governed) -> None:
    pod = governed.running()
    path = f"{governed.pods}/{pod['metadata']['name']}/ephemeralcontainers"
    refused = _patch(governed, path, _ephemeral(governed.unsigned.by_tag))
    assert refused.status == 403
    assert "ImageUnsigned: container debug" in refused.message
    done = _patch(governed, path, _ephemeral(governed.image.by_tag))
    assert done.status == 200, done.message
    assert done.body["spec"]["ephemeralContainers"][0]["image"].endswith(governed.image.digest)


def test_ephemeral_containers_are_refused_where_the_policy_denies_them(countersign: Installation) -> None:
    governed = govern(countersign, responses={"ephemeralContainer": "Deny"})
    pod = governed.admitted()
    path = f"{governed.pods}/{pod['metadata']['name']}/ephemeralcontainers"
    answer = _patch(governed, path, _ephemeral(governed.image.by_tag))
    assert answer.status == 403
    assert "EphemeralContainerDenied" in answer.message


def test_labels_of_a_running_pod_may_change(governed: Governed) -> None:
    pod = governed.running()
    path = f"{governed.pods}/{pod['metadata']['name']}"
    answer = governed.edit.patch(path, {"metadata": {"labels": {"role": "leader"}}})
    assert answer.status == 200, answer.message
    governed.countersign.grant_of(pod, state="Active")


def test_warn_mode_warns_and_admits(countersign: Installation) -> None:
    governed = govern(countersign, mode="Warn")
    pod = governed.pod(image=governed.unsigned.by_tag)
    done = governed.lab.try_kubectl("apply", "-f", "-", as_=governed.attacker, input_=json.dumps(pod))
    assert done.returncode == 0
    assert "Warning: ImageUnsigned: container app" in done.stderr
    stored = governed.lab.admin.get(f"{governed.pods}/{pod['metadata']['name']}", expect=200).body
    assert "countersign-token-ledger" not in [one["name"] for one in stored["spec"]["volumes"]]


def test_the_decision_stands_in_the_audit_log(governed: Governed) -> None:
    pod = governed.admitted()
    event = governed.lab.audit.wait(
        verb="create", resource="pods", namespace=governed.namespace, name=pod["metadata"]["name"]
    )
    notes = {key.rpartition("/")[2]: value for key, value in event["annotations"].items() if "countersign" in key}
    assert notes["verdict"] == "allow"
    assert governed.policy["metadata"]["name"] in notes["policies"]
    assert governed.image.digest in notes["digests"]


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_registry_that_does_not_answer_is_a_retry_that_the_replicaset_makes_by_itself(governed: Governed) -> None:
    fresh = _push_signed(governed)
    deployment = _deployment(governed, fresh.by_tag)
    name = deployment["metadata"]["name"]
    with _stopped(governed.lab.registry("referrers").process.pid):
        _apply(governed, deployment)
        text = governed.lab.wait_for(
            lambda: (text := _describe_replicasets(governed, name)) and "FailedCreate" in text and text,
            what="the ReplicaSet says why",
        )
        assert "could not verify in time, will be retried" in text
    governed.lab.pods(governed.namespace, f"app={name}", count=1, timeout=60)


def test_a_pod_of_a_namespace_that_nothing_governs_is_none_of_its_business(governed: Governed) -> None:
    namespace = governed.lab.create_namespace(f"free-{governed.namespace}")
    pod = objects.pod("free", namespace, objects.pod_spec(objects.container("docker.io/library/anything:1")))
    stored = governed.lab.admin.post(f"/api/v1/namespaces/{namespace}/pods", pod, expect=201).body
    assert stored["spec"]["containers"][0]["image"] == "docker.io/library/anything:1"


def _patch(governed: Governed, path: str, patch: dict[str, Any]) -> Answer:
    """A strategic merge patch: containers are merged by name, as kubectl does it."""
    return governed.lab.admin.patch(path, patch, content_type="application/strategic-merge-patch+json")


def _injecting(governed: Governed, image: PushedImage) -> SidecarInjector:
    """A webhook that is called after Countersign, by its name."""
    return SidecarInjector(
        governed.lab, "zz-sidecar", governed.namespace, image.by_tag, admitted_image=governed.image.by_tag
    )


def test_a_pod_that_claims_to_be_going_already_is_judged_like_any_other(governed: Governed) -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
    assert governed.create(governed.pod(image=governed.unsigned.by_tag, metadata=going)).status == 403
    pod = governed.admitted(governed.pod(metadata=going))
    assert "deletionTimestamp" not in pod["metadata"]
    assert pod["spec"]["containers"][0]["image"].endswith(governed.image.digest)


@pytest.fixture
def private(governed: Governed) -> Iterator[PushedImage]:
    """A signed image in a registry that wants a password; the policy covers it meanwhile."""
    lab, namespace = governed.lab, governed.namespace
    registry = lab.registry("private")
    image = registry.repository(f"{namespace}/secret").push("v1", ImageSpec.distinct(f"{namespace}-private"))
    lab.cosign.sign(registry, image, governed.key)
    rule = objects.image_rule([f"{registry.host}/{namespace}/**"], [governed.key.public_pem])
    wider = objects.cluster_policy(
        governed.policy["metadata"]["name"],
        namespaces={"governed-by": namespace},
        images=[*governed.policy["spec"]["images"], {**rule, "name": "private"}],
        tokens=governed.policy["spec"]["tokens"],
    )
    governed.countersign.declare(wider)
    yield image
    governed.countersign.declare(governed.policy)


def test_an_image_behind_a_password_is_verified_with_the_pods_pull_secret(
    governed: Governed, private: PushedImage
) -> None:
    lab, namespace = governed.lab, governed.namespace
    username, password = lab.registry("private").credentials or ("", "")
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    config = json.dumps({"auths": {lab.registry("private").host: {"auth": auth}}})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "regcred", "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }
    governed.countersign.apply(secret)
    with_secret = governed.pod(image=private.by_tag, imagePullSecrets=[{"name": "regcred"}])
    refused = governed.create(with_secret)
    assert refused.status == 403, "Countersign may not read this namespace's Secrets yet"
    assert "ImageUnverifiable" in refused.message
    assert "imagePullSecret" in refused.message

    for obj in _pull_secret_role(governed):
        governed.countersign.apply(obj)
    lab.wait_for(lambda: governed.create(with_secret).status in (201, 409), what="it is admitted")
    stored = lab.admin.get(f"{governed.pods}/{with_secret['metadata']['name']}", expect=200).body
    assert stored["spec"]["containers"][0]["image"].endswith(private.digest)
    assert governed.create(governed.pod(image=private.by_tag)).status == 403, "without the secret it is not"


def _pull_secret_role(governed: Governed) -> list[objects.Object]:
    """What the chart's gate.pullSecretNamespaces makes of this namespace."""
    rendered = render({"gate": {"pullSecretNamespaces": [governed.namespace]}}, governed.countersign.namespace)
    return [obj for obj in rendered if obj["metadata"].get("name") == "countersign-gate-pull-secrets"]


def _push_signed(governed: Governed) -> PushedImage:
    registry = governed.lab.registry("referrers")
    mark = _name()
    image = registry.repository(f"{governed.namespace}/app").push(
        mark, ImageSpec.distinct(f"{governed.namespace}-{mark}", entrypoint=["/app"])
    )
    governed.lab.cosign.sign(registry, image, governed.key)
    return image


def _images(**images: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": name, "image": image} for name, image in images.items()]}}


def _ephemeral(image: str) -> dict[str, Any]:
    return {"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}}
