"""Break-glass on a real API server: the door opens, gives no identity, says so everywhere, and closes by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.commandline import countersign as command
from tests.stack.governed import Governed
from tests.stack.installation import Installation

PAUSES = "/apis/countersign.dev/v1alpha1/admissionpauses"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
WEBHOOKS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


@pytest.fixture(scope="module")
def countersign(programs: None) -> Iterator[Installation]:
    """An installation of its own, in which no other policy has entries of its own."""
    with Lab.start() as own, Installation.start(own) as running:
        yield running


@pytest.fixture(autouse=True)
def _shut_again(governed: Governed) -> Iterator[None]:
    """Every pause ends with its test, and the next begins behind a shut door."""
    yield
    lab = governed.lab
    for name in ("controller", "gate", "verifier"):
        if name not in governed.countersign.services:
            governed.countersign.start_service(name)
    for one in lab.admin.get(PAUSES, expect=200).body["items"]:
        lab.admin.delete(f"{PAUSES}/{one['metadata']['name']}")
    lab.wait_for(lambda: failure_policies(governed.countersign) == {"Fail"}, what="the door is shut")


def failure_policies(countersign: Installation) -> set[str]:
    """Of the entries about pods, in both configurations."""
    return {
        entry["failurePolicy"]
        for kind in WEBHOOKS
        for entry in countersign.lab.admin.get(f"{ADMISSION}/{kind}/countersign", expect=200).body["webhooks"]
        if entry["name"].startswith("pods-")
    }


def paused(governed: Governed, *, length: str = "30m") -> str:
    """Pause as the admin does; the name of the pause."""
    result = command(
        "pause", f"--for={length}", "--reason=the registry is down", "-o", "json", kubeconfig=governed.lab.kubeconfig
    )
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return str(told["name"])


def condition(governed: Governed, name: str) -> tuple[str, str]:
    (found,) = governed.lab.admin.get(f"{PAUSES}/{name}", expect=200).body["status"]["conditions"]
    return found["status"], found["reason"]


def refused(governed: Governed) -> bool:
    return governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403


def test_the_door_opens_gives_no_identity_and_is_shut_by_hand(governed: Governed) -> None:
    lab, countersign = governed.lab, governed.countersign
    running = governed.running()
    assert refused(governed)
    name = paused(governed)
    assert condition(governed, name) == ("True", "Paused")
    assert failure_policies(countersign) == {"Ignore"}

    unsigned = governed.create(governed.pod(image=governed.unsigned.by_tag))
    assert unsigned.status == 201, unsigned.message
    assert any(f"AdmissionPause {name} ends at" in one for one in unsigned.warnings)
    assert any("would have been refused: ImageUnsigned" in one for one in unsigned.warnings)
    signed = governed.create()
    assert signed.status == 201, signed.message
    for answer in (unsigned, signed):
        pod = answer.body
        assert "countersign.dev/receipt" not in pod["metadata"].get("annotations", {})
        assert not [one for one in pod["spec"]["volumes"] if one["name"].startswith("countersign-token-")]
        grant = countersign.grant_of(pod, state="Revoked")
        assert grant["status"]["reason"] == "ReceiptMissing"
        assert not grant["spec"].get("tokens")
        placed = governed.node.run(pod)
        minted = governed.node.request_token(placed, governed.audience)
        assert minted.status == 403, "no identity for what came in meanwhile"

    assert governed.active(governed.token(running)), "what ran before keeps its identity"
    (event,) = lab.wait_for(
        lambda: [
            one
            for one in lab.admin.get("/apis/events.k8s.io/v1/namespaces/default/events").body["items"]
            if one["regarding"].get("name") == name
        ],
        what="an Event about the pause",
    )
    assert (event["type"], event["reason"]) == ("Warning", "AdmissionPaused")
    for service in ("controller", "gate"):
        assert "countersign_admission_paused 1.0" in countersign.services[service].metrics()

    result = command("resume", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    assert "the door is shut" in result.stderr
    assert condition(governed, name) == ("False", "Ended")
    assert failure_policies(countersign) == {"Fail"}
    assert refused(governed)
    assert "countersign_admission_paused 0.0" in countersign.services["controller"].metrics()


def test_it_closes_by_itself(governed: Governed) -> None:
    name = paused(governed, length="6s")
    assert not refused(governed)
    governed.lab.wait_for(lambda: refused(governed), what="the gate refuses again")
    governed.lab.wait_for(
        lambda: condition(governed, name) == ("False", "Ended"), what="the pause says that it is over"
    )
    governed.lab.wait_for(
        lambda: failure_policies(governed.countersign) == {"Fail"}, what="the webhooks fail closed again"
    )


def test_with_everything_of_ours_gone_the_command_opens_the_door_itself(governed: Governed) -> None:
    lab, countersign = governed.lab, governed.countersign
    for name in list(countersign.services):
        countersign.kill(name)
    assert governed.create().status >= 500
    began = time.monotonic()
    result = command("pause", "--for=25s", "--reason=all is lost", kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    assert "this command has opened the webhook configurations" in result.stderr
    # Its author has asked for the protected token himself.
    asks = {"serviceAccountToken": {"audience": governed.audience, "expirationSeconds": 600, "path": "token"}}
    pod = governed.pod(volumes=[{"name": "mine", "projected": {"sources": [asks]}}])
    admitted = lab.wait_for(
        lambda: answer if (answer := governed.create(pod)).status == 201 else None, what="a governed pod is admitted"
    )
    pod = governed.node.run(admitted.body)
    token = governed.token(pod)  # nobody is there to refuse it to the kubelet
    # The pause is over before a controller is there again, and no gate is.
    time.sleep(max(0.0, 26 - (time.monotonic() - began)))
    assert failure_policies(countersign) == {"Ignore"}
    told = command("doctor", "-o", "json", kubeconfig=lab.kubeconfig)
    (check,) = [one for one in json.loads(told.stdout) if one["check"] == "pause"]
    assert check["result"] == "fail"
    countersign.start_service("controller")
    lab.wait_for(lambda: failure_policies(countersign) == {"Fail"}, what="the controller shuts the door")
    assert governed.create().status >= 500, "no gate answers, and none is needed to shut the door"
    countersign.start_service("verifier")
    assert countersign.grant_of(pod)["status"]["reason"] == "ReceiptMissing"
    assert not governed.active(token), "what came in without an identity has none afterwards"


def test_a_controller_that_comes_back_during_a_pause_leaves_the_door_open(governed: Governed) -> None:
    name = paused(governed)
    governed.countersign.kill("controller")
    governed.countersign.kill("gate")
    governed.countersign.start_service("controller")
    governed.lab.wait_for(
        lambda: (
            f"countersign_admission_pause_end_timestamp_seconds {0.0}"
            not in governed.countersign.services["controller"].metrics()
        ),
        what="the new controller leads and knows of the pause",
    )
    governed.countersign.settle()
    assert condition(governed, name) == ("True", "Paused")
    assert failure_policies(governed.countersign) == {"Ignore"}
    assert governed.create().status == 201


def test_a_token_request_is_judged_as_ever(governed: Governed) -> None:
    paused(governed)
    answer = governed.edit.post(
        f"/api/v1/namespaces/{governed.namespace}/serviceaccounts/worker/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [governed.audience]}},
    )
    assert answer.status == 403


def test_a_receipt_of_the_authors_is_removed_and_an_update_is_let_through(governed: Governed) -> None:
    old = governed.running()
    paused(governed)
    forged = governed.pod(metadata={"annotations": {"countersign.dev/receipt": "forged"}})
    answer = governed.create(forged)
    assert answer.status == 201, answer.message
    assert "countersign.dev/receipt" not in answer.body["metadata"].get("annotations", {})
    change = [{"op": "replace", "path": "/spec/containers/0/image", "value": governed.unsigned.by_tag}]
    updated = governed.edit.patch(f"{governed.pods}/{old['metadata']['name']}", change)
    assert updated.status == 200, updated.message
    assert any("would have been refused" in one for one in updated.warnings)
    assert governed.countersign.grant_of(old, state="Revoked")["status"]["reason"] == "ImageChanged"


def test_the_list_and_doctor_show_it(governed: Governed) -> None:
    lab = governed.lab
    name = paused(governed)
    (shown,) = json.loads(command("pause", "--list", "-o", "json", kubeconfig=lab.kubeconfig).stdout)
    assert (shown["name"], shown["open"], shown["by"]) == (name, "yes", "lab-admin")
    assert shown["reason"] == "the registry is down"
    told = json.loads(command("doctor", "-o", "json", kubeconfig=lab.kubeconfig).stdout)
    (check,) = [one for one in told if one["check"] == "pause"]
    assert check["result"] == "warn"
    assert name in check["found"]


def test_who_may_only_break_the_glass_can(governed: Governed) -> None:
    lab = governed.lab
    lab.grant_cluster_role("responder", "countersign-breakglass")
    mine = lab.kubeconfig_for("responder")
    result = command("pause", "--for=10m", "--reason=paged", kubeconfig=mine)
    assert result.exit_code == 0, result.output
    assert command("resume", kubeconfig=mine).exit_code == 0
    # The last resort needs more.
    governed.countersign.kill("controller")
    result = command("pause", "--for=10m", "--reason=paged", kubeconfig=mine)
    assert result.exit_code == 2
    assert "cannot be changed" in result.stderr
    assert "gates that run let pods in" in result.stderr


def test_of_two_pauses_each_is_ended_for_itself(governed: Governed) -> None:
    lab = governed.lab
    first, second = paused(governed), paused(governed, length="10m")
    result = command("resume", first, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 1
    assert f"by AdmissionPause {second}" in result.stderr
    assert not refused(governed)
    assert command("resume", kubeconfig=lab.kubeconfig).exit_code == 0
    assert refused(governed)
    assert "is over" in command("resume", first, kubeconfig=lab.kubeconfig).stderr


def test_an_edit_user_opens_nothing(governed: Governed) -> None:
    result = command("pause", "--for=10m", "--reason=please", kubeconfig=governed.lab.kubeconfig_for(governed.attacker))
    assert result.exit_code == 2
    assert "you may not" in result.stderr
    made = objects.admission_pause("2099-01-01T00:00:00Z")
    assert governed.edit.post(PAUSES, made).status == 403


@pytest.mark.parametrize(
    "args",
    [
        ["--reason=x"],
        ["--for=25h", "--reason=x"],
        ["--for=0s", "--reason=x"],
        ["--for=soon", "--reason=x"],
        ["--for=10m"],
    ],
)
def test_an_order_without_its_length_or_reason_is_refused(governed: Governed, args: list[str]) -> None:
    assert command("pause", *args, kubeconfig=governed.lab.kubeconfig).exit_code == 2
    assert governed.lab.admin.get(PAUSES, expect=200).body["items"] == []
