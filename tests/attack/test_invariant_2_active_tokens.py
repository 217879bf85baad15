"""Invariant 2: what a token must be to count, at minting and at use, with every webhook removed, too."""

import pytest

from tests.lab.http import Answer
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

TEN_YEARS = 10 * 365 * 24 * 3600


def _mint(governed: Governed, **spec: object) -> Answer:
    path = f"/api/v1/namespaces/{governed.namespace}/serviceaccounts/worker/token"
    return governed.edit.post(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})


def _bound(pod: objects.Object, *, uid: bool = True) -> dict[str, str]:
    reference = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"]}
    return {**reference, "uid": pod["metadata"]["uid"]} if uid else reference


def test_the_token_of_an_admitted_running_pod_is_active_and_tells_its_evidence(governed: Governed) -> None:
    pod = governed.running()
    answer = governed.introspect(governed.token(pod))
    assert answer["active"] is True
    assert answer["aud"] in (governed.audience, [governed.audience])
    told = answer["countersign.dev"]
    assert told["pod"]["uid"] == pod["metadata"]["uid"]
    assert governed.image.digest in str(told["images"])
    assert told["owner"] == "payments@example.com"


def test_nobody_with_edit_mints_ten_years_for_two_audiences_bound_to_somebodys_pod(governed: Governed) -> None:
    pod = governed.running()
    audiences = [governed.audience, "other.example.com"]
    answer = _mint(governed, audiences=audiences, expirationSeconds=TEN_YEARS, boundObjectRef=_bound(pod))
    assert answer.status >= 400
    assert governed.audience in answer.message


@pytest.mark.parametrize("uid", [True, False], ids=["with the pod's UID", "without a UID"])
def test_nobody_with_edit_mints_even_one_audience_for_ten_minutes(governed: Governed, uid: bool) -> None:
    pod = governed.running()
    bound = _bound(pod, uid=uid)
    answer = _mint(governed, audiences=[governed.audience], expirationSeconds=600, boundObjectRef=bound)
    assert answer.status >= 400


def test_a_node_mints_only_for_a_granted_pod_by_uid_alone_and_for_the_granted_time(governed: Governed) -> None:
    pod = governed.running()
    node = governed.node
    assert node.request_token(pod, governed.audience, expiration_seconds=600).status == 201
    assert node.request_token(pod, governed.audience, uid=None).status >= 400
    assert node.request_token(pod, None, audiences=[governed.audience, "other.example.com"]).status >= 400
    assert node.request_token(pod, governed.audience, expiration_seconds=TEN_YEARS).status >= 400
    assert governed.lab.node("attacked-2").request_token(pod, governed.audience).status >= 400


def test_tokens_minted_around_the_webhooks_are_inactive(countersign: Installation) -> None:
    governed = govern(countersign, audience_spec={"mode": "Audit"})
    pod = governed.running()
    countersign.stop("controller")
    countersign.remove_webhooks()
    try:
        attacks = {
            "two audiences": {"audiences": [governed.audience, "other.example.com"], "boundObjectRef": _bound(pod)},
            "ten years": {
                "audiences": [governed.audience], "boundObjectRef": _bound(pod), "expirationSeconds": TEN_YEARS,
            },
            "bound to nothing": {"audiences": [governed.audience]},
        }  # fmt: skip
        tokens = {}
        for name, spec in attacks.items():
            answer = governed.lab.wait_for(
                lambda spec=spec: next((a for a in (_mint(governed, **spec),) if a.status == 201), None),  # type: ignore[misc]
                what=f"an Audit audience is minted without webhooks: {name}",
            )
            tokens[name] = answer.body["status"]["token"]
        genuine = governed.token(pod)
    finally:
        countersign.start_service("controller")
        countersign.await_webhooks()
    assert {name: governed.introspect(token) for name, token in tokens.items()} == {
        name: {"active": False} for name in tokens
    }
    assert governed.active(genuine)


def test_an_asker_that_is_no_introspector_learns_nothing(governed: Governed) -> None:
    pod = governed.running()
    token = governed.token(pod)
    stranger = governed.countersign.asker(governed.namespace, "default")
    assert governed.countersign.introspect(token, asker=stranger) == {"active": False}
    assert governed.countersign.introspect(token, asker="garbage") == {"active": False}
    assert governed.countersign.introspect(token, asker=token) == {"active": False}


def test_a_namespaces_own_policy_hands_out_no_foreign_audience(governed: Governed) -> None:
    lab = governed.lab
    team = lab.create_namespace(f"{governed.namespace}-team")
    own = objects.trust_policy(
        "grab",
        team,
        images=[objects.image_rule([f"{governed.image.repository.rpartition('/')[0]}/**"], [governed.key.public_pem])],
        tokens=[objects.token(governed.audience)],
    )
    governed.countersign.declare(own)
    made = lab.admin.post(
        f"/api/v1/namespaces/{team}/pods",
        objects.pod("grabber", team, objects.pod_spec(objects.container(governed.image.by_tag))),
    )
    if made.status == 201:
        names = [volume["name"] for volume in made.body["spec"]["volumes"]]
        assert not [name for name in names if name.startswith("countersign-token-")]
    state = lab.admin.get(f"/apis/countersign.dev/v1alpha1/namespaces/{team}/trustpolicies/grab").body["status"]
    resolved = next(c for c in state["conditions"] if c["type"] == "ResolvedRefs")
    assert resolved["status"] == "False"
    assert team in resolved["message"]


def test_an_audience_that_is_cel_stays_a_string(governed: Governed) -> None:
    injection = 'x"] || true || a in ["y'
    refused = governed.countersign.create(objects.protected_audience("injected", injection))
    assert refused.status == 422
    own = objects.trust_policy(
        "inject", governed.namespace, images=[objects.image_rule(["example.com/**"], [governed.key.public_pem])],
        tokens=[objects.token(injection)],
    )  # fmt: skip
    assert governed.countersign.create(own).status == 422


def test_a_pods_author_cannot_ask_for_a_protected_audience_in_a_volume_of_their_own(governed: Governed) -> None:
    projection = {"serviceAccountToken": {"audience": governed.audience, "path": "t", "expirationSeconds": 86400}}
    volume = {"name": "mine", "projected": {"sources": [projection]}}
    mount = {"name": "mine", "mountPath": "/mine"}
    pod = governed.pod(objects.container(governed.image.by_tag, volumeMounts=[mount]), volumes=[volume])
    answer = governed.create(pod)
    assert answer.status == 403
    assert "TokenExposed" in answer.message
