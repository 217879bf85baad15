"""The verifier on a real API server, under the chart's own RBAC, with no other process of ours anywhere."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from countersign.api.clock import format_time
from tests.lab.lab import Lab
from tests.lab.node import NodePlayer
from tests.stack import objects
from tests.stack.lone_verifier import LoneVerifier

INACTIVE = b'{"active": false}'
_NAMES = itertools.count(1)


@pytest.fixture(scope="module")
def verifier(lab: Lab) -> Iterator[LoneVerifier]:
    with LoneVerifier(lab) as running:
        yield running


class Shop(NamedTuple):
    """A namespace with a workload's account and a relying party that may ask."""

    verifier: LoneVerifier
    namespace: str
    node: NodePlayer
    asker: str

    def pod(self, *, account: str = "worker", audience: str = "", run: bool = True) -> objects.Object:
        """A pod that projects the audience: what any author can write, around the gate."""
        projection = {"audience": audience or self.verifier.audience, "expirationSeconds": 600, "path": "token"}
        volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": projection}]}}
        spec = objects.pod_spec(
            objects.container("registry.example.com/app:v1"), service_account=account, volumes=[volume]
        )
        made = objects.pod(f"pod-{next(_NAMES)}", self.namespace, spec)
        found = self.verifier.lab.admin.post(objects.collection_path(made), made, expect=201).body
        return self.node.run(found) if run else dict(found)

    def token(self, pod: objects.Object) -> str:
        return self.node.token(pod, self.verifier.audience)

    def mint(self, account: str = "worker", **spec: Any) -> str:
        """As a user who may create tokens, with anything that the API server lets pass."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.verifier.lab.admin.post(path, body, expect=201).body["status"]["token"])

    def ask(self, token: str) -> Any:
        answer = self.verifier.ask(token, self.asker)
        assert answer.status == 200, answer.message
        if not answer.body["active"]:
            assert answer.data == INACTIVE
        return answer.body

    def active(self, token: str) -> bool:
        return bool(self.ask(token)["active"])

    def await_inactive(self, token: str) -> None:
        """Wait until the relying party is told so. How long it takes is the benchmarks' to say."""
        client = self.verifier.client()
        self.verifier.lab.wait_for(
            lambda: not self.verifier.ask(token, self.asker, client=client).body["active"], what="the token is inactive"
        )

    def reason(self, token: str) -> str:
        """Why, as `/explain` tells one who may read grants here."""
        answer = self.verifier.ask(token, self.verifier.asker(self.namespace, "reader"), endpoint="explain")
        return str(answer.body.get("reason", "not told"))


@pytest.fixture(scope="module")
def shop(verifier: LoneVerifier) -> Shop:
    lab = verifier.lab
    namespace = lab.create_namespace("lone-shop")
    for account in ("worker", "other", "relying-party", "stranger", "reader"):
        made = objects.service_account(account, namespace)
        lab.admin.post(objects.collection_path(made), made, expect=201)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "grants", "namespace": namespace},
        "rules": [{"apiGroups": ["countersign.dev"], "resources": ["workloadgrants"], "verbs": ["get"]}],
    }
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    lab.admin.post(f"{path}/roles", role, expect=201)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "grants", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "grants"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    }
    lab.admin.post(f"{path}/rolebindings", binding, expect=201)
    verifier.declare_audience(namespace)
    return Shop(verifier, namespace, lab.node("lone-1"), verifier.asker(namespace))


def test_the_token_of_a_granted_running_pod_is_active(shop: Shop) -> None:
    pod = shop.pod()
    grant = shop.verifier.grant(pod)
    answer = shop.ask(shop.token(pod))
    assert answer["active"] is True
    assert answer["aud"] == shop.verifier.audience
    assert answer["sub"] == f"system:serviceaccount:{shop.namespace}:worker"
    assert answer["exp"] - answer["iat"] == 600
    told = answer["countersign.dev"]
    assert told["pod"] == {
        "namespace": shop.namespace,
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "node": "lone-1",
    }
    assert told["grant"] == {"name": grant["metadata"]["name"], "state": "Active"}
    assert told["owner"] == "payments@example.com"


def test_a_lookalike_around_the_gate_is_inactive(shop: Shop) -> None:
    shop.verifier.grant(shop.pod())
    lookalike = shop.pod()
    token = shop.token(lookalike)
    assert not shop.active(token)
    assert shop.reason(token) == "GrantMissing"


def test_the_grant_of_another_pod_does_not_serve(shop: Shop) -> None:
    pod, other = shop.pod(), shop.pod()
    token = shop.token(pod)
    shop.verifier.grant(other)
    assert shop.reason(token) == "GrantMissing"
    grant = shop.verifier.grant({**pod, "metadata": {**pod["metadata"], "name": other["metadata"]["name"]}})
    shop.verifier.lab.wait_for(lambda: shop.reason(token) == "GrantMismatch", what="the grant names another pod")
    assert grant["spec"]["pod"]["uid"] == pod["metadata"]["uid"]


@pytest.mark.parametrize(
    ("reason", "spec"),
    [
        ("AudienceNotSingle", {"audiences": ["ledger.example.com", "other.example.com"]}),
        ("LifetimeTooLong", {"audiences": ["ledger.example.com"], "expirationSeconds": 315_360_000}),
        ("LifetimeTooLong", {"audiences": ["ledger.example.com"], "expirationSeconds": 601}),
        ("AudienceUnknown", {"audiences": ["other.example.com"]}),
    ],
)
def test_a_token_minted_by_a_person_around_the_webhooks_is_inactive(
    shop: Shop, reason: str, spec: dict[str, Any]
) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    token = shop.mint(boundObjectRef=bound, **spec)
    assert not shop.active(token)
    assert shop.reason(token) == reason
    assert shop.active(shop.token(pod))


def test_a_token_bound_to_no_pod_is_inactive(shop: Shop) -> None:
    token = shop.mint(audiences=[shop.verifier.audience], expirationSeconds=600)
    assert not shop.active(token)
    assert shop.reason(token) == "TokenNotPodBound"


def test_a_token_minted_before_the_pod_had_a_node_is_inactive_for_ever(shop: Shop) -> None:
    pod = shop.pod(run=False)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"]}
    early = shop.mint(audiences=[shop.verifier.audience], expirationSeconds=600, boundObjectRef=bound)
    shop.verifier.grant(pod)
    running = shop.node.run(pod)
    assert shop.active(shop.token(running))
    assert shop.reason(early) == "TokenNotPodBound"


def test_a_finished_pods_token_is_dead_while_tokenreview_still_says_authenticated(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    token = shop.token(pod)
    assert shop.active(token)
    shop.node.finish(pod)
    shop.await_inactive(token)
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [shop.verifier.audience]},
    }
    said = shop.verifier.lab.admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review, expect=201).body
    assert said["status"]["authenticated"] is True
    assert shop.reason(token) == "PodTerminal"


def test_no_later_status_revives_a_pod_that_ended(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    token = shop.token(pod)
    ended = shop.node.finish(pod)
    shop.await_inactive(token)
    shop.node.patch_status(ended, {"phase": "Running"})
    time.sleep(0.5)
    assert not shop.active(token)


def test_a_deleted_pods_token_is_dead_at_once(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    token = shop.token(pod)
    assert shop.active(token)
    shop.verifier.lab.admin.delete(f"/api/v1/namespaces/{shop.namespace}/pods/{pod['metadata']['name']}", expect=200)
    shop.node.remove(pod)
    shop.await_inactive(token)
    assert shop.reason(token) == "PodUnknown"


@pytest.mark.parametrize(("state", "reason"), [("Suspended", "GrantSuspended"), ("Revoked", "GrantRevoked")])
def test_a_grant_that_is_not_active_ends_the_token(shop: Shop, state: str, reason: str) -> None:
    pod = shop.pod()
    grant = shop.verifier.grant(pod)
    token = shop.token(pod)
    assert shop.active(token)
    shop.verifier.set_state(grant, state)
    shop.await_inactive(token)
    assert shop.reason(token) == reason


def test_a_revocation_holds_before_any_controller_has_carried_it_out(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    token = shop.token(pod)
    assert shop.active(token)
    order = objects.revocation(shop.namespace, {"pod": {"name": pod["metadata"]["name"]}})
    shop.verifier.lab.admin.post(objects.collection_path(order), order, expect=201)
    shop.await_inactive(token)
    assert shop.reason(token) == "Revoked"


def test_an_instance_whose_lifetime_is_over_is_inactive(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod, expiresAt=format_time(datetime.now(UTC) + timedelta(seconds=5)))
    token = shop.token(pod)
    assert shop.active(token)
    shop.await_inactive(token)
    assert shop.reason(token) == "GrantExpired"


def test_the_answer_about_a_pod_just_born_waits_for_its_grant(shop: Shop) -> None:
    pod = shop.pod()
    token = shop.token(pod)
    timer = threading.Timer(0.7, lambda: shop.verifier.grant(pod))
    timer.start()
    started = time.perf_counter()
    assert shop.active(token)
    assert time.perf_counter() - started > 0.5
    timer.join()


def test_it_waits_two_seconds_and_no_longer(shop: Shop) -> None:
    token = shop.token(shop.pod())
    started = time.perf_counter()
    assert not shop.active(token)
    assert 1.9 < time.perf_counter() - started < 10


def test_everyone_else_gets_the_same_bytes(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    token = shop.token(pod)
    verifier = shop.verifier
    askers = {
        "a stranger": verifier.asker(shop.namespace, "stranger"),
        "the introspector of another namespace": verifier.asker(verifier.namespace, "countersign-verifier"),
        "a token for another audience": verifier.asker(shop.namespace, audience="other.example.com"),
        "the token asked about": token,
        "garbage": "garbage",
        "a JWT of nobody": "e30.e30.AAAA",
        "nothing": "",
    }
    answers = {name: verifier.ask(token, asker) for name, asker in askers.items()}
    assert {name: (answer.status, answer.data) for name, answer in answers.items()} == dict.fromkeys(
        askers, (200, INACTIVE)
    )
    headers = [{k: v for k, v in answer.headers.items() if k != "Date"} for answer in answers.values()]
    assert all(one == headers[0] for one in headers)
    assert shop.active(token)


def test_an_asker_whose_account_is_gone_learns_nothing_more(shop: Shop) -> None:
    verifier, lab = shop.verifier, shop.verifier.lab
    pod = shop.pod()
    verifier.grant(pod)
    token = shop.token(pod)
    path = f"/api/v1/namespaces/{shop.namespace}/serviceaccounts"
    assert verifier.ask(token, shop.asker).body["active"]
    lab.admin.delete(f"{path}/relying-party", expect=200)
    lab.admin.post(path, objects.service_account("relying-party", shop.namespace), expect=201)
    # Our confirmation serves 10 s, on top of the API server's own cache of 10 s.
    lab.wait_for(lambda: not verifier.ask(token, shop.asker).body["active"], what="the asker is refused")
    assert verifier.ask(token, verifier.asker(shop.namespace)).body["active"]


def test_garbage_never_reaches_the_api_server(shop: Shop) -> None:
    verifier, lab = shop.verifier, shop.verifier.lab
    asker = verifier.asker(shop.namespace)
    user = f"system:serviceaccount:{verifier.namespace}:countersign-verifier"

    def asked() -> list[str]:
        """What the verifier asked the API server for, watches and lists aside."""
        events = lab.audit_events(lambda event: event["verb"] in ("get", "create"), user=user)
        return [event["requestURI"] for event in events if "/openid" not in event["requestURI"]]

    genuine = shop.token(shop.pod())
    header, payload, _ = genuine.split(".")
    verifier.ask("garbage", asker)
    lab.audit.wait(user=user, resource="tokenreviews")
    before = asked()
    for number in range(100):
        forged = f"{header}.{payload}.{'A' * 340}{number:02}"
        verifier.ask(forged, asker)
        verifier.ask(genuine, forged)
    time.sleep(0.5)  # the audit log is written a moment later
    after = asked()[len(before) :]
    # The asker's own confirmation is renewed each 5 s.
    assert {uri.partition("?")[0] for uri in after} <= {"/apis/authentication.k8s.io/v1/tokenreviews"}
    assert len(after) <= 10


def test_the_reason_is_for_those_who_may_read_grants(shop: Shop) -> None:
    token = shop.token(shop.pod())
    verifier = shop.verifier
    told = verifier.ask(token, verifier.asker(shop.namespace, "reader"), endpoint="explain").body
    assert (told["active"], told["reason"]) == (False, "GrantMissing")
    assert "countersign explain pod" in told["message"]
    assert verifier.ask(token, verifier.asker(shop.namespace, "stranger"), endpoint="explain").data == INACTIVE
    assert "GrantMissing" in verifier.log


def test_a_heartbeat_that_stands_still_makes_it_answer_503_in_its_service(shop: Shop) -> None:
    pod = shop.pod()
    shop.verifier.grant(pod)
    token = shop.token(pod)
    asker = shop.verifier.asker(shop.namespace)
    verifier = shop.verifier
    assert verifier.ask(token, asker).status == 200
    verifier.stop_heartbeat()
    try:
        answer = verifier.lab.wait_for(
            lambda: next((one for one in (verifier.ask(token, asker),) if one.status != 200), None),
            what="it answers 503",
        )
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert b"active" not in answer.data
        assert verifier.ready(), "no other replica would do better, and an upgrade must not wait for the controller"
    finally:
        verifier.resume_heartbeat()
    verifier.lab.wait_for(lambda: verifier.ask(token, asker).status == 200, what="it answers again")


def test_a_new_certificate_is_served_without_a_restart(shop: Shop) -> None:
    def served() -> bytes:
        return ssl.get_server_certificate(("127.0.0.1", shop.verifier.port)).encode()

    held = shop.verifier.client()
    held.get("/")  # a connection that stays open
    before = served()
    fresh = shop.verifier.issue()
    shop.verifier.serve_certificate(fresh)
    shop.verifier.lab.wait_for(lambda: served() != before, what="the new certificate is served")
    assert b"".join(served().split()) in b"".join(fresh.certificate.split())
    assert held.get("/").status == 404


def test_a_restarted_verifier_misses_no_end(shop: Shop) -> None:
    pods = [shop.pod() for _ in range(3)]
    grants = [shop.verifier.grant(pod) for pod in pods]
    tokens = [shop.token(pod) for pod in pods]
    asker = shop.verifier.asker(shop.namespace)
    assert all(shop.verifier.ask(token, asker).body["active"] for token in tokens)
    shop.verifier.stop()
    shop.node.finish(pods[0])
    shop.verifier.set_state(grants[1], "Revoked")
    shop.verifier.start()
    assert [shop.verifier.ask(token, asker).body["active"] for token in tokens] == [False, False, True]
