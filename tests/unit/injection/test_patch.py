"""The patch: few operations, none that overwrites, and a second call changes nothing."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import msgspec
import pytest

from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.pod import Pod
from countersign.injection.patch import Injection, escape, inject, with_receipt
from countersign.trust.images.extraction import extract
from countersign.trust.images.pins import pins
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.verdict import UNGOVERNED, judge
from tests.unit.trust.build import (
    ALL_NAMESPACES,
    AUDIENCE,
    NOW,
    PINNED,
    TAGGED,
    audience,
    cluster_policy,
    container,
    evidence_for,
    facts,
    rule,
    snapshot,
    subject,
    token,
    trust_policy,
    unsigned,
)

TOKEN = token(env_var="LEDGER_TOKEN_FILE")
FOLDER = "/var/run/secrets/countersign.dev/ledger"
VOLUME = {
    "name": "countersign-token-ledger",
    "projected": {
        "sources": [{"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 600, "path": "token"}}],
        "defaultMode": 420,
    },
}
MOUNT = {"name": "countersign-token-ledger", "mountPath": FOLDER, "readOnly": True}
ENV = {"name": "LEDGER_TOKEN_FILE", "value": f"{FOLDER}/token"}
API_MOUNT = {
    "name": "kube-api-access-x",
    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    "readOnly": True,
}


def api_volume(seconds: int = 3607) -> dict[str, Any]:
    sources = [
        {"serviceAccountToken": {"expirationSeconds": seconds, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "kube-api-access-x", "projected": {"sources": sources, "defaultMode": 420}}


def obj(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"generateName": "api-", "namespace": "payments", "labels": {"app": "api"}}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": {"containers": list(containers or (container(),)), **spec}}


def run(given: PolicySnapshot, members: dict[str, Any], found: Any = None) -> tuple[Injection, dict[str, Any]]:
    """The injection for the object, and the object with its operations applied."""
    of = msgspec.convert(members, Pod)
    evidence = evidence_for(of, found)
    injection = inject(of, judge(given, subject(of), evidence, stage="mutate", now=NOW), pins(extract(of), evidence))
    return injection, applied(injection, members)


def applied(injection: Injection, members: dict[str, Any]) -> dict[str, Any]:
    operations = json.loads(injection.patch)
    result: dict[str, Any] = jsonpatch.apply_patch(members, operations)
    assert msgspec.convert(result, Pod) == injection.pod
    return result


def giving(**members: Any) -> PolicySnapshot:
    return snapshot(cluster_policy(tokens=(TOKEN,), **members))


def test_the_digest_is_written_and_nothing_else_where_no_token_is_due() -> None:
    injection, _ = run(snapshot(cluster_policy()), obj())
    assert json.loads(injection.patch) == [{"op": "replace", "path": "/spec/containers/0/image", "value": PINNED}]


def test_a_token_is_a_volume_a_mount_and_a_variable() -> None:
    injection, result = run(giving(), obj())
    assert result["spec"]["volumes"] == [VOLUME]
    assert result["spec"]["containers"][0] == container(image=PINNED, volumeMounts=[MOUNT], env=[ENV])
    assert len(injection.operations) == 4


def test_what_the_author_has_stays_in_its_place() -> None:
    data = {"name": "data", "emptyDir": {}}
    mount = {"name": "data", "mountPath": "/data"}
    env = {"name": "A", "value": "b"}
    members = obj(container(volumeMounts=[mount], env=[env]), volumes=[data])
    _, result = run(giving(), members)
    assert result["spec"]["volumes"] == [data, VOLUME]
    assert result["spec"]["containers"][0]["volumeMounts"] == [mount, MOUNT]
    assert result["spec"]["containers"][0]["env"] == [env, ENV]


def test_arrays_that_are_there_but_empty_are_filled() -> None:
    _, result = run(giving(), obj(container(env=[], volumeMounts=[]), volumes=[]))
    assert result["spec"]["volumes"] == [VOLUME]
    assert result["spec"]["containers"][0] == container(image=PINNED, volumeMounts=[MOUNT], env=[ENV])


def test_only_the_named_containers_receive_it() -> None:
    policy = cluster_policy(tokens=(token(containers=("api", "init")),))
    _, result = run(snapshot(policy), obj(container(), container("web"), initContainers=[container("init")]))
    assert result["spec"]["containers"][0]["volumeMounts"] == [MOUNT]
    assert "volumeMounts" not in result["spec"]["containers"][1]
    assert result["spec"]["initContainers"][0]["volumeMounts"] == [MOUNT]


def test_several_tokens_stand_side_by_side() -> None:
    policy = cluster_policy(tokens=(TOKEN, token("vault", "vault.example.com")))
    given = snapshot(policy, audiences=[audience(), audience("vault.example.com", name="vault")])
    _, result = run(given, obj())
    assert [volume["name"] for volume in result["spec"]["volumes"]] == [
        "countersign-token-ledger",
        "countersign-token-vault",
    ]
    assert len(result["spec"]["containers"][0]["volumeMounts"]) == 2


def test_a_second_call_changes_nothing() -> None:
    given = snapshot(cluster_policy(tokens=(TOKEN,), api_token="Remove"))
    members = obj(container(volumeMounts=[API_MOUNT]), volumes=[api_volume()])
    _, once = run(given, members)
    again, _ = run(given, once)
    assert again.operations == ()


def test_a_container_that_another_webhook_added_is_covered_at_re_invocation() -> None:
    _, once = run(giving(), obj())
    once["spec"]["containers"].append(container("added"))
    again, result = run(giving(), once)
    assert [operation.path for operation in again.operations] == [
        "/spec/containers/1/image",
        "/spec/containers/1/volumeMounts",
        "/spec/containers/1/env",
    ]
    assert result["spec"]["containers"][1]["image"] == PINNED


def test_a_token_that_is_no_longer_due_is_taken_out_again() -> None:
    _, once = run(giving(mode="Audit"), obj(container(env=[{"name": "A", "value": "b"}])))
    once["spec"]["containers"].append(container("unsigned", TAGGED))
    _, result = run(giving(mode="Audit"), once, unsigned())
    assert result["spec"]["volumes"] == []
    assert result["spec"]["containers"][0]["volumeMounts"] == []
    assert result["spec"]["containers"][0]["env"] == [{"name": "A", "value": "b"}]


def test_a_token_that_two_policies_hand_out_alike_stays_for_the_one_that_gives_it() -> None:
    own = trust_policy(tokens=(TOKEN,), mode="Audit", images=(rule(keys=(9,)),))
    given = snapshot(cluster_policy(tokens=(TOKEN,)), own, audiences=[audience(allowed=ALL_NAMESPACES)])
    _, once = run(given, obj())
    assert once["spec"]["volumes"] == [VOLUME]
    again, _ = run(given, once)
    assert again.operations == ()


def test_remove_takes_the_api_token_out_of_every_container_and_keeps_it_out() -> None:
    data = {"name": "data", "emptyDir": {}}
    mount = {"name": "data", "mountPath": "/data"}
    members = obj(
        container(volumeMounts=[API_MOUNT, mount]),
        container("web", volumeMounts=[mount, API_MOUNT]),
        initContainers=[container("init", volumeMounts=[API_MOUNT])],
        volumes=[api_volume(), data],
    )
    _, result = run(snapshot(cluster_policy(api_token="Remove")), members)
    assert result["spec"]["automountServiceAccountToken"] is False
    assert result["spec"]["volumes"] == [data]
    assert [each["volumeMounts"] for each in result["spec"]["containers"]] == [[mount], [mount]]
    assert result["spec"]["initContainers"][0]["volumeMounts"] == []


def test_shorten_changes_the_lifetime_only_and_never_to_3607() -> None:
    members = obj(container(image=PINNED, volumeMounts=[API_MOUNT]), volumes=[api_volume()])
    injection, result = run(snapshot(cluster_policy(api_token="Shorten")), members)
    assert json.loads(injection.patch) == [
        {
            "op": "replace",
            "path": "/spec/volumes/0/projected/sources/0/serviceAccountToken/expirationSeconds",
            "value": 3600,
        }
    ]
    assert result["spec"]["volumes"] == [api_volume(3600)]


def test_keep_leaves_the_api_token_alone() -> None:
    members = obj(container(image=PINNED, volumeMounts=[API_MOUNT]), volumes=[api_volume()])
    injection, _ = run(snapshot(cluster_policy()), members)
    assert injection.operations == ()
    assert injection.pod.spec.volumes[0].name == "kube-api-access-x"


def test_image_volumes_are_pinned() -> None:
    volume = {"name": "model", "image": {"reference": TAGGED, "pullPolicy": "Always"}}
    of = msgspec.convert(obj(container(image=PINNED), volumes=[volume]), Pod)
    evidence = {TAGGED: facts(), PINNED: facts()}
    verdict = judge(snapshot(cluster_policy()), subject(of), evidence, stage="mutate", now=NOW)
    injection = inject(of, verdict, pins(extract(of), evidence))
    assert json.loads(injection.patch) == [
        {"op": "replace", "path": "/spec/volumes/0/image/reference", "value": PINNED}
    ]
    assert extract(injection.pod)[1].image == PINNED


def test_only_images_are_pinned_on_an_update() -> None:
    of = msgspec.convert(obj(), Pod)
    verdict = judge(giving(api_token="Remove"), subject(of), {TAGGED: facts()}, stage="mutate", now=NOW)
    injection = inject(of, verdict, {"/spec/containers/0/image": PINNED}, only_images=True)
    assert [operation.path for operation in injection.operations] == ["/spec/containers/0/image"]


def test_a_pod_that_nothing_governs_is_left_alone() -> None:
    of = msgspec.convert(obj(volumes=[api_volume()]), Pod)
    injection = inject(of, UNGOVERNED, {})
    assert injection.operations == ()
    assert injection.pod is of


def test_a_denied_pod_keeps_what_it_came_with() -> None:
    injection, _ = run(snapshot(cluster_policy(tokens=(TOKEN,), images=(rule(keys=(9,)),))), obj(), unsigned())
    assert [operation.path for operation in injection.operations] == ["/spec/containers/0/image"]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, {"op": "add", "path": "/metadata/annotations", "value": {RECEIPT_ANNOTATION: "x"}}),
        ({}, {"op": "add", "path": "/metadata/annotations", "value": {RECEIPT_ANNOTATION: "x"}}),
        ({"a": "b"}, {"op": "add", "path": "/metadata/annotations/countersign.dev~1receipt", "value": "x"}),
        (
            {RECEIPT_ANNOTATION: "forged"},
            {"op": "replace", "path": "/metadata/annotations/countersign.dev~1receipt", "value": "x"},
        ),
        ({RECEIPT_ANNOTATION: "x"}, None),
    ],
)
def test_the_receipt_is_added_or_replaced(annotations: Any, expected: Any) -> None:
    members = obj(annotations=annotations)
    of = msgspec.convert(members, Pod)
    injection = with_receipt(inject(of, UNGOVERNED, {}), "x")
    assert json.loads(injection.patch) == ([expected] if expected else [])
    assert applied(injection, members)["metadata"]["annotations"] == {**(annotations or {}), RECEIPT_ANNOTATION: "x"}


def test_a_receipt_that_the_author_wrote_is_removed() -> None:
    members = obj(annotations={"a": "b", RECEIPT_ANNOTATION: "forged"})
    injection = with_receipt(inject(msgspec.convert(members, Pod), UNGOVERNED, {}), None)
    assert applied(injection, members)["metadata"]["annotations"] == {"a": "b"}
    untouched = with_receipt(inject(msgspec.convert(obj(), Pod), UNGOVERNED, {}), None)
    assert untouched.operations == ()


def test_pointers_are_escaped() -> None:
    assert escape("a/b~c") == "a~1b~0c"
