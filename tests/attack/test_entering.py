"""Going into a pod with a token: by exec, attach, port-forward and their back doors. The kubelet's part is not needed,
for all of it is decided before the API server speaks to one (tests/e2e/test_entering.py has the real ones).
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.http import Answer
from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.commandline import countersign as command
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

GROUP = "/apis/countersign.dev/v1alpha1"
SUBRESOURCES = ("exec", "attach", "portforward")
LET_IN = 400
"""What the API server says once nobody refused: these requests ask for no upgrade of the connection."""


@pytest.fixture(scope="module")
def closed(countersign: Installation) -> Governed:
    """A namespace whose policy lets nobody in."""
    return govern(countersign, responses={"exec": "Deny"})


@pytest.fixture(scope="module")
def audited(countersign: Installation) -> Governed:
    """A namespace whose policy is in Audit mode."""
    return govern(countersign, mode="Audit")


@pytest.fixture(scope="module")
def lax(countersign: Installation) -> Governed:
    """A namespace whose policy says nothing against ephemeral containers."""
    return govern(countersign, responses={"ephemeralContainer": "Report"})


def enter(governed: Governed, pod: objects.Object, sub: str = "exec", *, method: str = "POST", **query: str) -> Answer:
    """As the edit user."""
    if sub == "exec":
        query = {"container": "app", "command": "sh", "stdout": "true", **query}
    elif sub == "attach":
        query = {"container": "app", "stdout": "true", **query}
    else:
        query = {"ports": "80", **query}
    return governed.edit.request(method, f"{governed.pods}/{pod['metadata']['name']}/{sub}", query=query)


def orders(governed: Governed, pod: objects.Object) -> list[Any]:
    found = governed.lab.admin.get(f"{GROUP}/namespaces/{governed.namespace}/revocations", expect=200).body["items"]
    return [one for one in found if one["metadata"]["name"].startswith(f"exec-{pod['metadata']['uid']}")]


def let_in(answer: Answer) -> bool:
    """Whether admission let it through: the answer is then the API server's own about the missing upgrade."""
    return answer.status == LET_IN and "upgrade" in answer.message.lower()


@pytest.mark.parametrize("sub", SUBRESOURCES)
def test_whoever_goes_in_ends_the_identity_and_is_on_record(governed: Governed, sub: str) -> None:
    pod = governed.running()
    token = governed.token(pod)
    assert governed.active(token)
    answer = enter(governed, pod, sub)
    assert let_in(answer), answer
    # On record by the time of the answer, whatever the controller does.
    (order,) = orders(governed, pod)
    assert order["spec"]["requestedBy"] == "system:serviceaccount:countersign-system:countersign-gate"
    assert governed.attacker in order["spec"]["reason"]
    governed.await_inactive(token)
    grant = governed.countersign.grant_of(pod, state="Revoked")
    assert grant["status"]["reason"] == "RevokedByOrder"
    assert governed.attacker in grant["status"]["message"]
    explained = command(
        "explain", "pod", pod["metadata"]["name"], "-n", governed.namespace, "--offline",
        kubeconfig=governed.lab.kubeconfig,
    )  # fmt: skip
    assert f"by {governed.attacker}" in explained.stdout
    assert order["metadata"]["name"] in explained.stdout
    (event,) = governed.lab.wait_for(
        lambda: [
            one
            for one in governed.lab.admin.get(f"/apis/events.k8s.io/v1/namespaces/{governed.namespace}/events").body[
                "items"
            ]
            if one["regarding"].get("uid") == pod["metadata"]["uid"] and one["reason"] == "RevokedByOrder"
        ],
        what="an Event about it",
    )
    assert governed.attacker in event["note"]
    audit = governed.lab.audit.wait(
        lambda one: "connect-" in str(one.get("annotations")), subresource=sub, name=pod["metadata"]["name"]
    )
    assert any(value.endswith(order["metadata"]["name"]) for value in audit["annotations"].values())


def test_a_get_that_would_open_a_websocket_counts_like_a_post(governed: Governed) -> None:
    pod = governed.running()
    enter(governed, pod, method="GET")
    assert len(orders(governed, pod)) == 1


def test_the_next_instance_of_the_name_has_an_identity(governed: Governed) -> None:
    pod = governed.running()
    enter(governed, pod)
    name = pod["metadata"]["name"]
    governed.lab.admin.delete(f"{governed.pods}/{name}", body={"gracePeriodSeconds": 0}, expect=200)
    again = governed.running(governed.pod(name=name))
    assert governed.active(governed.token(again))


def test_what_can_only_fail_ends_nothing(governed: Governed) -> None:
    pod = governed.running()
    typo = enter(governed, pod, container="typo")
    assert (typo.status, "has no container typo" in typo.message) == (400, True), typo.message
    assert not let_in(typo)
    assert enter(governed, {"metadata": {"name": "nobody"}}).status == 404
    assert orders(governed, pod) == []
    assert governed.active(governed.token(pod))


@pytest.mark.parametrize("sub", SUBRESOURCES)
def test_where_a_policy_denies_it_nobody_gets_in_and_the_identity_stays(closed: Governed, sub: str) -> None:
    pod = closed.running()
    answer = enter(closed, pod, sub)
    assert answer.status == 403
    for word in ("EntryDenied", closed.policy["metadata"]["name"], closed.attacker, "--copy-to"):
        assert word in answer.message
    assert orders(closed, pod) == []
    assert closed.active(closed.token(pod))


def test_in_audit_mode_the_identity_ends_all_the_same(audited: Governed) -> None:
    pod = audited.running()
    token = audited.token(pod)
    assert let_in(enter(audited, pod))
    audited.await_inactive(token)


def test_past_a_dead_gate_nobody_gets_in_not_even_in_audit_mode(governed: Governed, audited: Governed) -> None:
    pods = {one.namespace: (one, one.running()) for one in (governed, audited)}
    governed.countersign.kill("gate")
    try:
        for one, pod in pods.values():
            answer = enter(one, pod)
            assert not let_in(answer)
            assert "connect-" in answer.message
            assert "failed calling webhook" in answer.message
        # kube-system and our own namespace stay open: somebody has to mend the gate.
        for namespace in ("kube-system", governed.countersign.namespace):
            path = f"/api/v1/namespaces/{namespace}/pods/nobody/exec"
            assert governed.lab.admin.request("POST", path, query={"command": "sh"}).status == 404
    finally:
        governed.countersign.start_service("gate")
    for one, pod in pods.values():
        assert one.active(one.token(pod))


@contextlib.contextmanager
def without_the_right_to_record(lab: Lab) -> Iterator[None]:
    """The gate's role as an admin could cripple it."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/countersign-gate"
    role = lab.admin.get(path, expect=200).body
    rules = [one for one in role["rules"] if not ("revocations" in one["resources"] and "create" in one["verbs"])]
    lab.admin.patch(path, {"rules": rules}, expect=200)
    try:
        yield
    finally:
        lab.admin.patch(path, {"rules": role["rules"]}, expect=200)


def test_what_cannot_be_put_on_record_is_refused(governed: Governed) -> None:
    with without_the_right_to_record(governed.lab):

        def refused() -> bool:
            # The authorizer learns of the role by a watch: until then it is a pod less.
            pod = governed.running()
            answer = enter(governed, pod)
            if let_in(answer):
                return False
            assert answer.status == 503
            assert "EntryUnrecorded" in answer.message
            assert governed.active(governed.token(pod))
            return True

        governed.lab.wait_for(refused, what="an exec is refused")
    pod = governed.running()
    governed.lab.wait_for(lambda: let_in(enter(governed, pod)), what="the gate may record again")


@pytest.mark.parametrize("aim", [{"name": "nobody"}, {"uid": "another"}])
def test_a_harmless_order_of_that_name_made_before_saves_nobody(governed: Governed, aim: dict[str, str]) -> None:
    lab = governed.lab
    pod = governed.running()
    token = governed.token(pod)
    admin = f"owner-of-{governed.namespace}"
    lab.grant_role(governed.namespace, admin, "admin")
    target = {"name": pod["metadata"]["name"], **aim}
    planted = objects.revocation(governed.namespace, {"pod": target})
    planted["metadata"] = {"name": f"exec-{pod['metadata']['uid']}", "namespace": governed.namespace}
    path = objects.collection_path(planted)
    assert governed.edit.post(path, planted).status == 403, "edit orders nothing at all"
    lab.wait_for(lambda: lab.api(admin).post(path, planted).status in (201, 409), what="the owner may order")
    assert let_in(enter(governed, pod))
    assert len(orders(governed, pod)) == 2
    governed.await_inactive(token)


@pytest.fixture
def by_label(countersign: Installation) -> Iterator[Governed]:
    """A policy that governs by a label of the pod alone, wherever the pod is."""
    everywhere = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"entered": "by-label"}}}
    scene = govern(countersign, match=everywhere)
    yield scene
    scene.lab.admin.delete(objects.object_path(scene.policy), expect=200)


def test_a_label_taken_away_first_saves_nobody(by_label: Governed) -> None:
    pod = by_label.running(by_label.pod(metadata={"labels": {"entered": "by-label"}}))
    token = by_label.token(pod)
    path = f"{by_label.pods}/{pod['metadata']['name']}"
    by_label.edit.patch(path, {"metadata": {"labels": {"entered": None}}}, expect=200)
    assert let_in(enter(by_label, pod))
    by_label.await_inactive(token)


def test_a_pause_saves_no_identity(closed: Governed) -> None:
    lab = closed.lab
    pod = closed.running()
    token = closed.token(pod)
    assert command("pause", "--for=5m", "--reason=night", kubeconfig=lab.kubeconfig).exit_code == 0
    try:
        lab.wait_for(lambda: let_in(enter(closed, pod)), what="a pause lets in what Deny refuses")
        assert len(orders(closed, pod)) == 1
        closed.await_inactive(token)
        entries = lab.admin.get(
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/countersign", expect=200
        ).body["webhooks"]
        assert {one["failurePolicy"] for one in entries if one["name"].startswith("connect-")} == {"Fail"}
    finally:
        assert command("resume", kubeconfig=lab.kubeconfig).exit_code == 0


# Ephemeral containers


def debugger(governed: Governed, pod: objects.Object, **more: Any) -> Answer:
    container = {"name": "debugger", "image": governed.image.by_digest, **more}
    path = f"{governed.pods}/{pod['metadata']['name']}/ephemeralcontainers"
    # The built-in `edit` role may not even ask.
    return governed.lab.admin.patch(
        path, {"spec": {"ephemeralContainers": [container]}}, content_type="application/strategic-merge-patch+json"
    )


def test_a_debug_container_that_shares_the_processes_of_a_token_container_is_refused(lax: Governed) -> None:
    pod = lax.running()
    answer = debugger(lax, pod, targetContainerName="app")
    assert answer.status == 403
    assert "TokenExposed" in answer.message
    assert "--target" in answer.message
    assert lax.active(lax.token(pod))
    assert debugger(lax, pod).status == 200, "without a target it only stands beside"


def test_a_debug_container_that_mounts_the_token_is_refused(lax: Governed) -> None:
    pod = lax.running()
    mount = {"name": "countersign-token-ledger", "mountPath": "/mine"}
    answer = debugger(lax, pod, volumeMounts=[mount])
    assert (answer.status, "TokenExposed" in answer.message) == (403, True), answer.message


# By way of the kubelet

SPELLINGS = (
    "exec/ns/pod/app?command=id",
    "run/ns/pod/app?cmd=id",
    "attach/ns/pod/app",
    "portForward/ns/pod",
    "checkpoint/ns/pod/app",
    "cri/exec/abc",
    "debug/pprof/",
    "debug/flags/v",
    "",
    "/exec/ns/pod/app",
    "//exec/ns/pod/app",
    "./exec/ns/pod/app",
    "%65xec/ns/pod/app",
    "%2565xec/ns/pod/app",
    "%2fexec/ns/pod/app",
    "EXEC/ns/pod/app",
    "Exec/ns/pod/app",
    "metrics/../exec/ns/pod/app",
    "metrics/%2e%2e/exec/ns/pod/app",
    "metrics/..%2fexec/ns/pod/app",
    "metrics/./../exec/ns/pod/app",
    "metricsexec",
    "metrics%2f..%2f..%2fexec/ns/pod/app",
    "exec/ns/pod/app?path=/metrics",
    "exec/ns/pod/app?path=%2Fmetrics",
    "metrics%0a/../exec/ns/pod/app",
    "%0aexec/ns/pod/app",
    "exec/ns/pod/app%3F/metrics",
)
READ = (
    "metrics",
    "metrics/",
    "metrics/cadvisor",
    "metrics/resource",
    "stats/summary",
    "pods",
    "runningpods/",
    "healthz",
    "healthz/syncloop",
    "configz",
    "logs/",
    "logs/kubelet.log",
    "containerLogs/ns/pod/app?tailLines=1",
    "metrics?path=/exec/ns/pod/app",
)


def raw(lab: Lab, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """A request whose path no client has tidied up, as `system:masters`."""
    files = lab.ca.client("lab-admin", ["system:masters"])
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    context.load_cert_chain(str(files.cert), str(files.key))
    host = lab.url.removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=context, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_the_kubelets_exec_gets_through_nodes_proxy(
    governed: Governed, spelling: str, method: str
) -> None:
    for node in (governed.node.name, f"https:{governed.node.name}:10250", f"{governed.node.name}:10250"):
        status, said = raw(governed.lab, method, f"/api/v1/nodes/{node}/proxy/{spelling}")
        assert status in (403, 404), f"{node} {status} {said}"
        assert status == 404 or "countersign-node-proxy" in said


def test_a_websocket_gets_no_further(governed: Governed) -> None:
    path = f"/api/v1/nodes/{governed.node.name}/proxy/exec/ns/pod/app?command=id"
    status, said = raw(governed.lab, "GET", path, UPGRADE)
    assert (status, "guards.nodeProxy" in said) == (403, True)


@pytest.mark.parametrize("path", READ)
def test_what_scrapers_read_goes_through(governed: Governed, path: str) -> None:
    status, said = raw(governed.lab, "GET", f"/api/v1/nodes/{governed.node.name}/proxy/{path}")
    assert "guards.nodeProxy" not in said
    assert status != 403, said
