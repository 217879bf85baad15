"""`countersign token check`: the decision made here is the verifier's, and the verifier itself can be asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.lab.lab import Lab
from tests.stack.commandline import countersign
from tests.stack.lone_verifier import LoneVerifier
from tests.stack.objects import (
    collection_path,
    container,
    pod,
    pod_spec,
    protected_audience,
    revocation,
    service_account,
)

NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def verifier(lab: Lab) -> Iterator[LoneVerifier]:
    with LoneVerifier(lab, namespace="cli-verifier") as running:
        yield running


@pytest.fixture(scope="module")
def shop(lab: Lab, verifier: LoneVerifier) -> str:
    """A namespace with a relying party, and an account that may read grants."""
    name = lab.create_namespace("cli-token-shop")
    for account in ("worker", "relying-party", "reader", "stranger"):
        obj = service_account(account, name)
        lab.admin.post(collection_path(obj), obj, expect=201)
    rule = {"apiGroups": ["countersign.dev"], "resources": ["workloadgrants"], "verbs": ["get"]}
    base = "/apis/rbac.authorization.k8s.io/v1"
    role = {"metadata": {"name": "grants"}, "rules": [rule]}
    lab.admin.post(f"{base}/namespaces/{name}/roles", role, expect=201)
    binding = {
        "metadata": {"name": "grants"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "grants"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": name}],
    }
    lab.admin.post(f"{base}/namespaces/{name}/rolebindings", binding, expect=201)
    verifier.declare_audience(name)
    return name


@pytest.fixture
def running(lab: Lab, shop: str, verifier: LoneVerifier) -> Any:
    """A running pod with a token."""
    source = {"serviceAccountToken": {"audience": verifier.audience, "expirationSeconds": 600, "path": "token"}}
    volume = {"name": "token", "projected": {"sources": [source]}}
    spec = pod_spec(container("registry.example.com/x"), service_account="worker", volumes=[volume])
    obj = pod(f"pod-{next(NUMBERS)}", shop, spec)
    return lab.node("cli-node").run(lab.admin.post(collection_path(obj), obj, expect=201).body)


def token_of(lab: Lab, verifier: LoneVerifier, made: Any) -> str:
    return lab.node("cli-node").token(made, verifier.audience)


def check(lab: Lab, verifier: LoneVerifier, token: str, *args: str, kubeconfig: Path | None = None) -> Result:
    options = [f"--system-namespace={verifier.namespace}", "-o", "json", *args]
    result = countersign("token", "check", *options, input_=token, kubeconfig=kubeconfig or lab.kubeconfig)
    assert token not in result.output
    return result


def ask(lab: Lab, verifier: LoneVerifier, token: str, shop: str, asker: str = "reader", *args: str) -> Result:
    ca = lab.folder / "cli-verifier-ca.crt"
    ca.write_bytes(verifier.authority.certificate)
    options = [f"--verifier=https://127.0.0.1:{verifier.port}", f"--verifier-ca={ca}", f"--asker={shop}/{asker}"]
    return check(lab, verifier, token, *options, *args)


def told(result: Result) -> Any:
    return json.loads(result.stdout)


def test_here_and_at_the_verifier_an_active_token_is_active(
    lab: Lab, verifier: LoneVerifier, shop: str, running: Any
) -> None:
    verifier.grant(running)
    token = token_of(lab, verifier, running)
    here, there = check(lab, verifier, token), ask(lab, verifier, token, shop)
    assert (here.exit_code, there.exit_code) == (0, 0), here.output + there.output
    assert told(here) == told(there)
    assert told(here)["pod"] == f"{shop}/{running['metadata']['name']}"
    assert told(here)["audience"] == verifier.audience


@pytest.mark.parametrize(
    ("state", "reason"), [("Suspended", "GrantSuspended"), ("Revoked", "GrantRevoked"), (None, "GrantMissing")]
)
def test_here_and_at_the_verifier_the_reason_is_the_same(
    lab: Lab, verifier: LoneVerifier, shop: str, running: Any, state: str | None, reason: str
) -> None:
    if state is not None:
        verifier.grant(running, state=state)
    token = token_of(lab, verifier, running)
    here, there = check(lab, verifier, token), ask(lab, verifier, token, shop)
    assert (here.exit_code, there.exit_code) == (1, 1)
    assert told(here) == told(there)
    assert told(here)["reason"] == reason


def test_a_revocation_counts_before_it_is_carried_out(
    lab: Lab, verifier: LoneVerifier, shop: str, running: Any
) -> None:
    grant = verifier.grant(running)
    order = revocation(shop, {"grant": {"name": grant["metadata"]["name"]}})
    order["spec"]["requestedBy"] = "lab-admin"
    lab.admin.post(collection_path(order), order, expect=201)
    result = check(lab, verifier, token_of(lab, verifier, running))
    assert (result.exit_code, told(result)["reason"]) == (1, "Revoked")


def test_the_rules_of_the_audience_are_weighed_here_and_at_the_verifier_alike(
    lab: Lab, verifier: LoneVerifier, shop: str, running: Any, tmp_path: Path
) -> None:
    verifier.grant(running)
    token = token_of(lab, verifier, running)
    get, post = ["--method=GET", "--path=/v1/x"], ["--method=POST", "--path=/v1/x"]
    rules = [{"name": "read", "expression": "request.method == 'GET' && request.relyingParty.name == 'relying-party'"}]
    verifier.declare_audience(shop, allow=rules)
    try:
        lab.wait_for(
            lambda: told(ask(lab, verifier, token, shop))["reason"] == "NotAllowed", what="the verifier has the rules"
        )
        for use, code in ((get, 0), (post, 1), ([], 1)):
            here, there = check(lab, verifier, token, *use), ask(lab, verifier, token, shop, "reader", *use)
            assert (here.exit_code, told(here)) == (code, told(there))
        assert 'read: request.method = "POST"' in told(check(lab, verifier, token, *post))["message"]
        other = check(lab, verifier, token, *get, f"--relying-party={shop}/other")
        assert told(other)["reason"] == "AskerNotIntrospector"
        file = tmp_path / "uses.yaml"
        check(lab, verifier, token, *get, f"--record={file}", "--record-as=reads")
        check(lab, verifier, token, *post, f"--record={file}", "--record-as=writes")
        (tmp_path / "policies").mkdir()
        made = protected_audience("lone", verifier.audience, allow=rules)
        (tmp_path / "policies/lone.yaml").write_text(json.dumps(made))
        assert "2 passed" in countersign("policy", "test", str(file)).stdout
        (tmp_path / "policies/lone.yaml").write_text(json.dumps(protected_audience("lone", verifier.audience)))
        assert countersign("policy", "test", str(file)).exit_code == 1
    finally:
        verifier.declare_audience(shop, allow=[])
        lab.wait_for(lambda: told(ask(lab, verifier, token, shop))["active"], what="the verifier has no rules")


def test_a_use_that_no_rule_was_asked_about_is_not_recorded(
    lab: Lab, verifier: LoneVerifier, running: Any, tmp_path: Path
) -> None:
    result = check(lab, verifier, token_of(lab, verifier, running), f"--record={tmp_path / 'uses.yaml'}")
    assert result.exit_code == 1
    assert "inactive anyway (GrantMissing)" in result.stderr


def test_a_token_of_another_issuer_is_inactive(lab: Lab, verifier: LoneVerifier) -> None:
    result = check(lab, verifier, "e30.e30.e30")
    assert (result.exit_code, told(result)["reason"]) == (1, "TokenMalformed")


def test_who_may_not_read_what_the_decision_rests_on_gets_the_claims_and_no_answer(
    lab: Lab, verifier: LoneVerifier, running: Any
) -> None:
    token = token_of(lab, verifier, running)
    result = check(lab, verifier, token, kubeconfig=lab.kubeconfig_for("nobody-at-all"))
    assert (result.exit_code, told(result)["active"], told(result)["reason"]) == (3, None, "NotRead")
    assert told(result)["pod"].endswith(running["metadata"]["name"])


def test_an_asker_who_may_not_know_is_told_what_it_lacks(
    lab: Lab, verifier: LoneVerifier, shop: str, running: Any
) -> None:
    result = ask(lab, verifier, token_of(lab, verifier, running), shop, "stranger")
    assert (result.exit_code, told(result)["reason"]) == (3, "NotTold")
    assert "get workloadgrants" in told(result)["message"]


def test_a_verifier_without_a_heartbeat_answers_nothing(
    lab: Lab, verifier: LoneVerifier, shop: str, running: Any
) -> None:
    token = token_of(lab, verifier, running)
    verifier.stop_heartbeat()
    try:
        result = lab.wait_for(
            lambda: _unless_answered(ask(lab, verifier, token, shop)), what="the verifier misses the heartbeat"
        )
        assert result.exit_code == 3
        assert "does not answer now (503)" in result.stderr
    finally:
        verifier.resume_heartbeat()
        lab.wait_for(
            lambda: _unless_answered(ask(lab, verifier, token, shop)) is None, what="the verifier answers again"
        )


def _unless_answered(result: Result) -> Result | None:
    return result if result.exit_code == 3 else None


def test_the_name_in_the_certificate_may_be_named(lab: Lab, verifier: LoneVerifier, shop: str, running: Any) -> None:
    token = token_of(lab, verifier, running)
    result = ask(lab, verifier, token, shop, "reader", "--verifier-name=countersign-verifier.countersign-system.svc")
    assert result.exit_code == 3
    assert "cannot be asked" in result.stderr


def test_offline_a_token_tells_of_itself_and_nothing_is_believed(
    lab: Lab, verifier: LoneVerifier, running: Any, tmp_path: Path
) -> None:
    token = token_of(lab, verifier, running)
    file = tmp_path / "token"
    file.write_text(token + "\n")
    result = countersign("token", "check", f"--file={file}", "--offline")
    assert result.exit_code == 3
    assert "unknown" in result.stdout
    assert "its signature, pod, grant and revocations are not known" in result.stdout
    assert token not in result.output


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--file=/nowhere"], "No such file"),
        (["x.y.z", "--file=/nowhere"], "not both"),
        (["x.y.z", "--verifier=https://127.0.0.1:1"], "--asker namespace/name"),
        (["x.y.z", "--verifier=https://127.0.0.1:1", "--record=uses.yaml"], "a decision that is made here"),
        (["x.y.z", "--relying-party=shop"], "--relying-party 'shop': write namespace/name"),
        (["x.y.z", "--verifier=https://127.0.0.1:1", "--asker=shop"], "write namespace/name"),
    ],
)
def test_what_cannot_be_used_is_told(lab: Lab, args: list[str], told: str) -> None:
    result = countersign("token", "check", *args, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_token_goes_over_https_only(lab: Lab, verifier: LoneVerifier, shop: str) -> None:
    options = [f"--asker={shop}/reader", f"--verifier-ca={lab.ca_file}"]
    result = check(lab, verifier, "x.y.z", "--verifier=http://127.0.0.1:1", *options)
    assert result.exit_code == 2
    assert "https only" in result.stderr
