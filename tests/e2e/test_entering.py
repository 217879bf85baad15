"""Into a running container by exec, attach, port-forward and the kubelet's own back door: the price, on a real node."""

from __future__ import annotations

import subprocess

import pytest

from countersign.api.names import CAUSE_LABEL
from tests.e2e.scene import PROGRAM, TOKEN_FILE, NewScene, Scene
from tests.lab.http import Answer
from tests.stack.objects import Object

ORDERS = "/apis/countersign.dev/v1alpha1/namespaces/{}/revocations"
GUARD = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/countersign-node-proxy"


@pytest.fixture(scope="module")
def guarded(new_scene: NewScene) -> Scene:
    """A namespace whose policy says what policies say by default: whoever goes in ends the identity."""
    return new_scene(responses={"exec": "Revoke"})


@pytest.fixture(scope="module")
def closed(new_scene: NewScene) -> Scene:
    """A namespace whose policy lets nobody in."""
    return new_scene(responses={"exec": "Deny"})


def kubectl(scene: Scene, verb: str, pod: Object, *args: str) -> subprocess.CompletedProcess[str]:
    return scene.cluster.try_kubectl(verb, pod["metadata"]["name"], "-n", scene.namespace, *args)


def orders(scene: Scene, pod: Object) -> list[Object]:
    found = scene.cluster.items(ORDERS.format(scene.namespace), labelSelector=CAUSE_LABEL)
    return [one for one in found if one["spec"]["target"]["pod"]["uid"] == pod["metadata"]["uid"]]


def ended(scene: Scene, pod: Object, verb: str) -> None:
    (order,) = orders(scene, pod)
    assert order["metadata"]["labels"][CAUSE_LABEL] == verb
    grant = scene.grant(pod, "Revoked", "RevokedByOrder")
    assert f"entered: {verb}" in grant["status"]["message"]
    assert order["metadata"]["name"] in grant["status"]["causedBy"]


def test_an_exec_gets_in_and_what_it_reads_is_worth_nothing(guarded: Scene) -> None:
    pod = guarded.start(guarded.pod("entered"))
    told = kubectl(guarded, "exec", pod, "-c", "app", "--", PROGRAM, "cat", TOKEN_FILE)
    assert told.returncode == 0, told.stderr
    guarded.inactive(told.stdout)
    ended(guarded, pod, "exec")
    again = kubectl(guarded, "exec", pod, "-c", "app", "--", PROGRAM, "stat", PROGRAM)
    assert again.returncode == 0, again.stderr
    assert len(orders(guarded, pod)) == 1
    (event,) = [one for one in guarded.cluster.events(guarded.namespace, "entered") if "entered: exec" in one]
    assert event.startswith("RevokedByOrder: Identity ended.")

    guarded.cluster.delete(pod)
    guarded.cluster.gone(pod)
    guarded.cluster.wait(lambda: not orders(guarded, pod), what="the order goes with its pod", seconds=60)
    assert "entered: exec" in guarded.grant(pod)["status"]["message"], "the grant keeps what it said"


def test_an_attach_costs_the_same(guarded: Scene) -> None:
    pod = guarded.start(guarded.pod("attached", "work", "-for", "8s", "-every", "500ms", restartPolicy="Never"))
    told = kubectl(guarded, "attach", pod, "-c", "app")
    assert told.returncode == 0, told.stderr
    ended(guarded, pod, "attach")


def test_so_does_a_port_forward(guarded: Scene) -> None:
    pod = guarded.start(guarded.pod("forwarded"))
    with guarded.cluster.port_forward(guarded.namespace, "pod/forwarded", 8080) as port:
        assert port
        # kubectl connects to the pod before it says that it forwards.
        ended(guarded, pod, "port-forward")


def test_where_it_is_denied_the_container_is_never_reached(closed: Scene) -> None:
    pod = closed.start(closed.pod("closed", "work", "-every", "500ms"))
    for verb, *args in (
        ("exec", "-c", "app", "--", PROGRAM, "cat", TOKEN_FILE),
        ("attach", "-c", "app"),
        ("port-forward", ":8080"),
    ):
        told = kubectl(closed, verb, pod, *args)
        assert told.returncode != 0
        assert "EntryDenied" in told.stderr, told.stderr
        assert told.stdout == ""
    assert orders(closed, pod) == []
    closed.grant(pod, "Active")
    assert closed.cluster.logs(pod).splitlines()[-1].startswith("200 ")


def test_where_it_is_allowed_the_identity_stays(scene: Scene) -> None:
    pod = scene.start(scene.pod("open"))
    assert scene.ledger.ask(scene.token(pod)).active
    with scene.cluster.port_forward(scene.namespace, "pod/open", 8080):
        assert scene.ask(pod).active
    assert orders(scene, pod) == []


def test_a_debug_container_in_the_processes_of_the_token_container_is_refused(guarded: Scene) -> None:
    pod = guarded.start(guarded.pod("targeted"))
    told = kubectl(
        guarded, "debug", pod, f"--image={guarded.image.by_tag}", "--container=debugger", "--target=app",
        "--profile=restricted", "--", PROGRAM, "work",
    )  # fmt: skip
    assert told.returncode != 0
    assert "TokenExposed" in told.stderr
    guarded.grant(pod, "Active")


def by_kubelet(scene: Scene, pod: Object, method: str, path: str) -> Answer:
    return scene.cluster.api.request(method, f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy/{path}")


def test_the_kubelets_back_door_is_shut_and_was_one(guarded: Scene) -> None:
    pod = guarded.start(guarded.pod("behind"))
    where = f"{guarded.namespace}/{pod['metadata']['name']}/app"
    run = f"run/{where}?cmd={PROGRAM}+cat+{TOKEN_FILE}"
    for method, path in (("POST", run), ("GET", f"exec/{where}?command={PROGRAM}"), ("POST", f"checkpoint/{where}")):
        answer = by_kubelet(guarded, pod, method, path)
        assert (answer.status, "guards.nodeProxy" in answer.message) == (403, True), answer
    for path in ("metrics", "metrics/cadvisor", "stats/summary", "healthz", "pods", "configz"):
        assert by_kubelet(guarded, pod, "GET", path).status == 200, path
    assert by_kubelet(guarded, pod, "GET", f"containerLogs/{where}").status == 200

    binding = guarded.cluster.get(GUARD)
    guarded.cluster.delete(binding)
    try:
        told = guarded.cluster.wait(
            lambda: (answer := by_kubelet(guarded, pod, "POST", run)).ok and answer, what="the guard is gone"
        )
        assert guarded.ledger.ask(told.data.decode()).active, "without the guard the token is read and nobody knows"
        assert orders(guarded, pod) == []
    finally:
        meta = {name: binding["metadata"][name] for name in ("name", "labels", "annotations")}
        guarded.cluster.create({**binding, "metadata": meta})
    guarded.cluster.wait(lambda: by_kubelet(guarded, pod, "POST", run).status == 403, what="the guard is back")


def test_past_dead_gates_nobody_gets_in(guarded: Scene, scene: Scene) -> None:
    pod, free = guarded.start(guarded.pod("unwatched")), scene.start(scene.pod("free"))
    guarded.release.scale({"gate": 0})
    try:
        told = kubectl(guarded, "exec", pod, "-c", "app", "--", PROGRAM, "cat", TOKEN_FILE)
        assert told.returncode != 0
        assert "failed calling webhook" in told.stderr, told.stderr
        assert told.stdout == ""
        assert scene.ask(free).active, "where policies allow it, no gate is needed"
    finally:
        guarded.release.scale({"gate": 2})
    guarded.grant(pod, "Active")
