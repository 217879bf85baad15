"""The attacker's table of image trust, names and indexes: what a registry says once and what it says the next time."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonpatch
import pytest

from tests.attack.image_trust import NAME, Target
from tests.lab.images import ImageSpec, PushedImage
from tests.lab.lab import Lab
from tests.lab.registries import RegistryKind
from tests.render import render
from tests.stack import objects

AMD, ARM = ({"os": "linux", "architecture": one} for one in ("amd64", "arm64"))
NO_PLATFORM = {"os": "unknown", "architecture": "unknown"}


def entry(image: PushedImage, platform: dict[str, str] | None) -> dict[str, Any]:
    return {**image.descriptor(), **({"platform": platform} if platform else {})}


def listed(*entries: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries, **members}


@pytest.fixture(params=["platforms", "either"])
def kind(request: pytest.FixtureRequest) -> str:
    """A rule that asks for signatures on the platforms: the index itself may be anybody's."""
    return str(request.param)


@pytest.fixture
def children(target: Target, kind: str) -> tuple[PushedImage, PushedImage]:
    """A signed manifest and one that is not."""
    good, evil = target.push(kind), target.push(kind)
    target.sign(good)
    return good, evil


def test_an_index_of_signed_platforms_is_admitted(target: Target, kind: str, children: Any) -> None:
    """The other half of every row below."""
    good, _ = children
    target.admitted(target.index(kind, json.dumps(listed(entry(good, AMD))).encode()))


def test_an_index_with_one_child_that_is_not_signed_is_refused(target: Target, kind: str, children: Any) -> None:
    good, evil = children
    for platform in (ARM, AMD, None, {"os": "Unknown", "architecture": "unknown"}, {"os": "unknown", **ARM}):
        for entries in ((entry(good, AMD), entry(evil, platform)), (entry(evil, platform), entry(good, AMD))):
            target.refused(target.index(kind, json.dumps(listed(*entries)).encode()))


def test_an_index_that_runtimes_read_in_another_way_is_refused(target: Target, kind: str, children: Any) -> None:
    """Go's encoding/json minds no case of members and takes the last of several."""
    good, evil = children
    fine, bad = entry(good, AMD), entry(evil, AMD)
    hidden = {**entry(evil, NO_PLATFORM), "Platform": AMD}
    manifest = json.loads(target.repository(kind).get_manifest(evil.digest))
    for content in (
        listed(fine, Manifests=[bad]),
        {**listed(fine), "manife\u017fts": [bad]},
        listed({**fine, "Digest": evil.digest}),
        listed(fine, hidden),
        listed(fine, Manifests=None, Config=manifest["config"], Layers=manifest["layers"]),
    ):
        target.refused(target.index(kind, json.dumps(content, ensure_ascii=False).encode()), "ImageUnverifiable")
    twice = json.dumps(listed(fine)).replace('"manifests"', f'"manifests": [{json.dumps(bad)}], "manifests"', 1)
    target.refused(target.index(kind, twice.encode()), "ImageUnverifiable")


def test_an_index_inside_an_index_is_refused(target: Target, kind: str, children: Any) -> None:
    good, evil = children
    inner = target.index(kind, json.dumps(listed(entry(evil, AMD))).encode())
    target.refused(
        target.index(kind, json.dumps(listed(entry(good, AMD), entry(inner, ARM))).encode()), "ImageUnverifiable"
    )


# Between two looks


def review(operation: str, pod: dict[str, Any]) -> dict[str, Any]:
    kinds = {"kind": {"group": "", "version": "v1", "kind": "Pod"}}
    resource = {"resource": {"group": "", "version": "v1", "resource": "pods"}}
    user = {"userInfo": {"username": f"eve-{NAME}", "groups": ["system:authenticated"]}}
    request = {**kinds, **resource, **user, "uid": "1", "operation": operation, "namespace": NAME, "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def asked(target: Target, path: str, pod: dict[str, Any]) -> dict[str, Any]:
    """What the gate process answers, without an API server in between."""
    answer = target.countersign.client("gate").post(path, review("CREATE", pod), expect=200)
    return dict(answer.body["response"])


def mutated(target: Target, pod: dict[str, Any]) -> dict[str, Any]:
    response = asked(target, "/mutate", pod)
    assert response["allowed"], response
    patch = json.loads(base64.b64decode(response["patch"]))
    return dict(jsonpatch.apply_patch(copy.deepcopy(pod), patch))


def test_a_tag_that_moves_between_the_two_calls_changes_nothing(target: Target) -> None:
    good, evil = target.push("keyed"), target.push("keyed")
    target.sign(good)
    pod = objects.pod("moved", NAME, objects.pod_spec(objects.container(good.by_tag)))
    pinned = mutated(target, pod)
    target.repository("keyed").move_tag(good.tag, evil)
    assert pinned["spec"]["containers"][0]["image"].endswith(good.digest)
    assert asked(target, "/validate", pinned)["allowed"]
    for image, says in ((good.by_tag, "ImageNotPinned"), (f"{good.by_tag}@{evil.digest}", "ImageUnsigned")):
        changed = copy.deepcopy(pinned)
        changed["spec"]["containers"][0]["image"] = image
        response = asked(target, "/validate", changed)
        assert not response["allowed"]
        assert says in response["status"]["message"]
    target.refused(good.by_tag)
    target.admitted(good.by_digest)


# Who may see what


@contextmanager
def private(target: Target) -> Iterator[tuple[PushedImage, list[str]]]:
    """A signed image behind a password, a policy for two namespaces, and the password in the first of them."""
    lab, registry = target.lab, target.lab.registry(RegistryKind.PRIVATE)
    image = registry.repository(f"{NAME}/secret").push("v1", ImageSpec.distinct(f"{NAME}-private"))
    lab.cosign.sign(registry, image, target.release)
    names = [lab.create_namespace(f"{NAME}-{one}", {"governed-by": f"{NAME}-private"}) for one in ("with", "without")]
    rule = objects.image_rule([f"{registry.host}/{NAME}/**"], [target.release.public_pem])
    policy = objects.cluster_policy(f"{NAME}-private", namespaces={"governed-by": f"{NAME}-private"}, images=[rule])
    target.countersign.declare(policy)
    username, password = registry.credentials or ("", "")
    config = json.dumps({"auths": {registry.host: {"username": username, "password": password}}})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "regcred", "namespace": names[0]},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }
    target.countersign.apply(secret)
    for obj in render({"gate": {"pullSecretNamespaces": names}}, target.countersign.namespace):
        if obj["metadata"].get("name") == "countersign-gate-pull-secrets":
            target.countersign.apply(obj)
    yield image, names
    lab.admin.delete(objects.object_path(policy))


def create(lab: Lab, namespace: str, image: str) -> tuple[int, str]:
    spec = objects.pod_spec(objects.container(image), imagePullSecrets=[{"name": "regcred"}])
    pod = objects.pod("secret", namespace, spec)
    answer = lab.admin.post(f"/api/v1/namespaces/{namespace}/pods", pod, query={"dryRun": "All"})
    return answer.status, answer.message


def test_what_one_tenants_credentials_show_is_not_verified_for_another(target: Target) -> None:
    with private(target) as (image, (own, other)):
        lab = target.lab
        lab.wait_for(lambda: create(lab, own, image.by_tag)[0] == 201, what="it is admitted")
        for reference in (image.by_tag, image.by_digest):
            assert create(lab, own, reference)[0] == 201
            status, message = create(lab, other, reference)
            assert (status, "ImageUnverifiable" in message) == (403, True), message
            assert create(lab, own, reference)[0] == 201
