"""A leaked receipt key, on a real API server: what rests on it is listed, suspended at once, and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from countersign.keys.receipts import key_id_of
from tests.lab.lab import Lab
from tests.stack.commandline import countersign as run
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def own(programs: None) -> Iterator[Installation]:
    """An installation of the module's own: a revoked key concerns every grant of a cluster."""
    with Lab.start() as lab, Installation.start(lab) as running:
        yield running


@pytest.fixture(scope="module")
def scene(own: Installation) -> Governed:
    return govern(own)


def keys(own: Installation) -> dict[str, Any]:
    """The keys as the command lists them, by id."""
    listed = run("receipt-key", "list", "-o", "json", kubeconfig=own.lab.kubeconfig)
    assert listed.exit_code == 0, listed.stderr
    return {line["id"]: line for line in json.loads(listed.stdout)}


def key_of(pod: dict[str, Any]) -> str:
    return key_id_of(pod["metadata"]["annotations"]["countersign.dev/receipt"])


def test_what_rests_on_a_leaked_key_is_listed_suspended_and_restored(own: Installation, scene: Governed) -> None:
    pod = scene.running()
    token = scene.token(pod)
    assert scene.active(token)
    leaked = key_of(pod)
    assert own.grant_of(pod)["spec"]["pod"]["receiptKeyID"] == leaked
    assert keys(own)[leaked]["state"] == "signing"
    assert keys(own)[leaked]["active"] >= 1

    shown = run("receipt-key", "revoke", leaked, "--reason", "found in a paste", kubeconfig=own.lab.kubeconfig)
    assert shown.exit_code == 1
    assert pod["metadata"]["name"] in shown.stdout
    assert "Nothing was done" in shown.stderr
    assert scene.active(token)

    done = run("receipt-key", "revoke", leaked, "--reason", "found in a paste", "--yes", kubeconfig=own.lab.kubeconfig)
    assert done.exit_code == 0, done.stderr
    assert "ReceiptKeyRevoked" in done.stdout
    assert own.grant_of(pod)["status"]["state"] == "Suspended"
    scene.await_inactive(token)
    assert keys(own)[leaked]["state"] == "revoked"
    assert "found in a paste" in keys(own)[leaked]["remark"]

    fresh = scene.running()
    assert key_of(fresh) != leaked
    assert scene.active(scene.token(fresh))

    back = run("receipt-key", "restore", leaked, kubeconfig=own.lab.kubeconfig)
    assert back.exit_code == 0, back.stderr
    assert own.grant_of(pod)["status"]["reason"] == "QualifiesAgain"
    own.lab.wait_for(lambda: scene.active(token), what="the token is active again")
    assert not keys(own)[leaked]["remark"]


def test_a_receipt_of_a_revoked_key_is_not_used_again_by_the_gate(own: Installation, scene: Governed) -> None:
    pod = scene.running()
    leaked = key_of(pod)
    done = run("receipt-key", "revoke", leaked, "--reason", "leaked", "--yes", kubeconfig=own.lab.kubeconfig)
    assert done.exit_code == 0, done.stderr
    copy = scene.pod()
    copy["metadata"]["labels"] = pod["metadata"].get("labels", {})
    copy["metadata"]["annotations"] = {
        "countersign.dev/receipt": pod["metadata"]["annotations"]["countersign.dev/receipt"]
    }
    assert key_of(scene.running(copy)) != leaked
    assert run("receipt-key", "restore", leaked, kubeconfig=own.lab.kubeconfig).exit_code == 0


def test_nobody_with_the_edit_role_can_order_it(own: Installation, scene: Governed) -> None:
    pod = scene.running()
    leaked = key_of(pod)
    for command in (["list"], ["revoke", leaked, "--reason", "mine", "--yes"], ["restore", leaked]):
        answer = run("receipt-key", *command, kubeconfig=own.lab.kubeconfig_for(scene.attacker))
        assert answer.exit_code == 2
        assert "you may not" in answer.stderr
    assert own.grant_of(pod)["status"]["state"] == "Active"


def test_a_key_that_nobody_knows_is_refused(own: Installation, scene: Governed) -> None:
    for command in (["revoke", "0123", "--reason", "typo", "--yes"], ["restore", "0123"]):
        assert run("receipt-key", *command, kubeconfig=own.lab.kubeconfig).exit_code == 2


def test_a_restarted_controller_keeps_what_a_revoked_key_suspended(own: Installation, scene: Governed) -> None:
    pod = scene.running()
    token = scene.token(pod)
    leaked = key_of(pod)
    own.stop("controller")
    pending = run(
        "receipt-key", "revoke", leaked, "--reason", "leaked", "--yes", "--timeout=0.5", kubeconfig=own.lab.kubeconfig
    )
    assert pending.exit_code == 3, "nobody has followed yet, and the command says so"
    own.start_service("controller")
    own.grant_of(pod, state="Suspended")
    scene.await_inactive(token)
    assert run("receipt-key", "restore", leaked, kubeconfig=own.lab.kubeconfig).exit_code == 0
