"""The command line beside a running Countersign: what it says is what gate, controller and verifier do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import Result

from tests.lab.lab import Lab
from tests.stack.commandline import countersign as command
from tests.stack.governed import Governed
from tests.stack.installation import Installation
from tests.stack.objects import collection_path, container, deployment, pod_spec


def run(governed: Governed, *args: str) -> Result:
    lab = governed.lab
    registry = ["image", "policy", "explain"]
    reach = [f"--registry-ca={lab.ca_file}", "--allow-address-range=127.0.0.0/8"] if args[0] in registry else []
    return command(*args, *reach, "-o", "json", kubeconfig=lab.kubeconfig, DOCKER_CONFIG="/nowhere")


def told(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def countersign(programs: None) -> Iterator[Installation]:
    """An installation of their own: doctor sees what other tests leave behind."""
    with Lab.start() as own, Installation.start(own) as running:
        yield running


def test_doctor_finds_nothing_wrong(governed: Governed) -> None:
    result = run(governed, "doctor")
    checks = told(result)
    assert [check for check in checks if check["result"] == "fail"] == []
    assert result.exit_code == 0
    found = {check["check"]: check["found"] for check in checks}
    assert "a dry run in" in found["gate"]
    assert "leads" in found["controller"]
    assert found["guards"].startswith("12 guards hold")
    assert found["policies"].endswith("none with trouble")
    assert sum(check["check"] == "certificates" for check in checks) >= 3
    # The lab has no Deployments: the services are processes.
    assert [check["check"] for check in checks if check["result"] == "warn"] in (["services"], ["services", "coverage"])


def test_doctor_tells_that_the_gate_is_gone(governed: Governed) -> None:
    governed.countersign.stop("gate")
    try:
        result = run(governed, "doctor")
        (check,) = [check for check in told(result) if check["check"] == "gate"]
        assert result.exit_code == 1
        assert (check["result"], "cannot reach it" in check["found"]) == ("fail", True)
    finally:
        governed.countersign.start_service("gate")


def test_a_denied_deployment_is_explained_in_the_gates_own_words(governed: Governed) -> None:
    spec = pod_spec(container(governed.unsigned.by_tag), service_account="worker")
    obj = deployment("unsigned", governed.namespace, spec)
    assert governed.edit.post(collection_path(obj), obj).status == 201
    result = governed.lab.wait_for(lambda: _with_event(governed), what="the ReplicaSet's complaint")
    assert result.exit_code == 1
    shown = told(result)
    assert shown["message"].startswith("ImageUnsigned: container app")
    assert shown["failedCreations"][0]["message"].endswith(f"denied the request: {shown['message']}")


def _with_event(governed: Governed) -> Result | None:
    result = run(governed, "explain", "deploy", "unsigned", "-n", governed.namespace)
    return result if told(result)["failedCreations"] else None


def test_a_running_pod_is_explained_listed_checked_and_revoked(governed: Governed) -> None:
    made = governed.running()
    name, namespace = made["metadata"]["name"], governed.namespace
    explained = run(governed, "explain", "pod", name, "-n", namespace)
    assert explained.exit_code == 0, explained.output
    shown = told(explained)
    assert (shown["verdict"], shown["grant"]["state"]) == ("admitted", "Active")
    assert shown["receipt"] == "the one that the grant rests on"
    assert shown["images"][0]["vouched"][0].startswith("release (sha256:")
    assert [one["audience"] for one in shown["tokens"]] == [governed.audience]

    assert [row["pod"] for row in told(run(governed, "grants", "-n", namespace, f"--pod={name}"))] == [name]

    token = governed.token(made)
    assert command("token", "check", token, kubeconfig=governed.lab.kubeconfig).exit_code == 0

    revoked = run(governed, "revoke", "pod", name, "-n", namespace, "--reason=test", "--yes")
    assert revoked.exit_code == 0, revoked.output
    assert [row["pod"] for row in told(revoked)["ending"]] == [name]
    checked = command("token", "check", token, "-o", "json", kubeconfig=governed.lab.kubeconfig)
    assert checked.exit_code == 1
    assert told(checked)["reason"] in {"Revoked", "GrantRevoked"}
    governed.countersign.grant_of(made, state="Revoked")
    assert run(governed, "explain", "pod", name, "-n", namespace).exit_code == 1
