"""Rules of an audience under attack: by what a client sends, by what a pod's author writes, and by rules themselves.

The whole installation is there: the controller judges the audience and writes the grant, the verifier weighs each use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation, introspect

AUDIENCES = "/apis/countersign.dev/v1alpha1/protectedaudiences"
FOR_EVER = "request.scopes.all(a, request.scopes.all(b, a.size() + b.size() >= {}))"
READ = {
    "name": "read",
    "expression": "request.method == 'GET' && request.path.startsWith('/v1/')",
    "message": "read /v1",
}


@pytest.fixture(scope="module")
def scene(countersign: Installation) -> Governed:
    """A governed namespace whose audience has rules, each test its own."""
    return govern(countersign, profile="Batch")


@pytest.fixture(scope="module")
def token(scene: Governed) -> str:
    return scene.token(scene.running())


def ruled(scene: Governed, *rules: Mapping[str, str], accepted: str = "True") -> str:
    """Give the audience these rules, and wait until the controller has judged them; the message of its condition."""
    made = objects.protected_audience(
        scene.namespace, scene.audience, introspectors=[(scene.namespace, "relying-party")], allow=list(rules)
    )
    scene.countersign.declare(made)
    body = scene.lab.admin.get(f"{AUDIENCES}/{scene.namespace}", expect=200).body
    [found] = [one for one in body["status"]["conditions"] if one["type"] == "Accepted"]
    assert found["status"] == accepted, found
    return str(found["message"])


def rule(expression: str, name: str = "only") -> dict[str, str]:
    return {"name": name, "expression": expression}


def ask(scene: Governed, token: str, **use: str) -> bool:
    return bool(introspect(scene.countersign.verifier_client(), token, scene.asker, **use).body["active"])


def becomes(scene: Governed, expected: bool, ask_: Callable[[], bool]) -> None:
    """The verifier's watch has shown the change."""
    scene.lab.wait_for(lambda: ask_() is expected, what=f"the answer is {expected}")


def explained(scene: Governed, token: str, **use: str) -> Any:
    """What one who may read grants is told."""
    lab, reader = scene.lab, objects.service_account("reader", scene.namespace)
    lab.admin.apply(objects.object_path(reader), reader)
    lab.grant_role(scene.namespace, f"system:serviceaccount:{scene.namespace}:reader", role="view")
    asker = scene.countersign.asker(scene.namespace, "reader")
    return introspect(scene.countersign.verifier_client(), token, asker, endpoint="explain", **use).body


def test_each_use_is_weighed_by_what_the_relying_party_tells(scene: Governed, token: str) -> None:
    ruled(scene, READ)
    becomes(scene, False, lambda: ask(scene, token))
    assert ask(scene, token, method="GET", path="/v1/accounts?page=2")
    assert not ask(scene, token, method="POST", path="/v1/accounts")
    assert not ask(scene, token, method="GET", path="/admin")
    assert not ask(scene, token, path="/v1/accounts")


@pytest.mark.parametrize(
    "path",
    ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%2fadmin", "/v1/..;/admin", "/v1//admin", "/v1\\..\\admin",
     "/v1/%252e%252e/admin", "/v1/" + "a" * 3000],
)  # fmt: skip
def test_a_path_that_an_upstream_reads_in_another_way_is_admitted_by_no_rule(
    scene: Governed, token: str, path: str
) -> None:
    ruled(scene, rule("!request.path.startsWith('/admin')"))
    becomes(scene, True, lambda: ask(scene, token, path="/v1/accounts"))
    assert not ask(scene, token, path=path)


def test_a_scope_hidden_behind_many_is_not_overlooked(scene: Governed, token: str) -> None:
    ruled(scene, rule("request.scopes.all(s, s == 'read')"))
    becomes(scene, True, lambda: ask(scene, token, scope="read read"))
    assert not ask(scene, token, scope=" ".join(["read"] * 80 + ["admin"]))
    assert not ask(scene, token, scope="read admin")
    assert not ask(scene, token)


def test_the_grant_and_not_its_author_says_what_a_pod_is(scene: Governed, token: str) -> None:
    """The profile is its policy's, the evidence what was verified; labels are no part of the language."""
    ruled(scene, rule("grant.profile == 'Batch' && grant.evidence.exists(e, e.keyFingerprint.startsWith('sha256:'))"))
    becomes(scene, True, lambda: ask(scene, token))
    told = ruled(scene, rule("pod.labels['team'] == 'ledger'"), accepted="False")
    assert "the pod's author writes them" in told
    becomes(scene, False, lambda: ask(scene, token))


def test_a_rule_that_cannot_be_read_shuts_the_audience_and_says_what_to_mend(scene: Governed, token: str) -> None:
    ruled(scene, rule("true"))
    becomes(scene, True, lambda: ask(scene, token))
    told = ruled(scene, rule("true"), rule("request.metod == 'GET'", "typo"), accepted="False")
    assert told.startswith("allow rule typo: request has no member 'metod'")
    becomes(scene, False, lambda: ask(scene, token))
    answer = explained(scene, token)
    assert (answer["active"], answer["reason"]) == (False, "AudienceNotAccepted")
    assert "typo" in answer["message"]
    ruled(scene, rule("true"))
    becomes(scene, True, lambda: ask(scene, token))


def test_whoever_may_know_is_told_what_each_rule_came_upon(scene: Governed, token: str) -> None:
    ruled(scene, READ, rule("grant.profile == 'Agent'", "agents"))
    becomes(scene, False, lambda: ask(scene, token))
    answer = explained(scene, token, method="POST", path="/v1/x")
    assert (answer["active"], answer["reason"]) == (False, "NotAllowed")
    assert answer["message"].endswith('read (read /v1): request.method = "POST"; agents: grant.profile = "Batch"')


def test_a_rule_that_would_run_for_ever_admits_nobody_and_holds_nobody_up(
    countersign: Installation, scene: Governed, token: str
) -> None:
    """Sixteen of them, over as many scopes as there may be, asked without a pause by four; others are answered."""
    other = govern(countersign)
    free = other.token(other.running())
    ruled(scene, *(rule(FOR_EVER.format(number), f"r{number}") for number in range(16)))
    scopes = " ".join(f"s{number}" for number in range(64))
    becomes(scene, False, lambda: ask(scene, token, scope=scopes))
    over, answers = threading.Event(), []

    def flood() -> None:
        client = countersign.verifier_client()
        while not over.is_set():
            answers.append(introspect(client, token, scene.asker, scope=scopes).body)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for one in threads:
        one.start()
    try:
        client = countersign.verifier_client()
        slowest = 0.0
        for _ in range(50):
            started = time.perf_counter()
            assert introspect(client, free, other.asker).body["active"]
            slowest = max(slowest, time.perf_counter() - started)
    finally:
        over.set()
        for one in threads:
            one.join()
    assert slowest < 2.0  # of a machine that runs the flood, too
    assert len(answers) > 20
    assert all(answer == {"active": False} for answer in answers)


def test_a_token_that_is_not_active_is_admitted_by_no_rule(scene: Governed) -> None:
    ruled(scene, rule("true"))
    pod = scene.running()
    ended = scene.token(pod)
    becomes(scene, True, lambda: ask(scene, ended))
    scene.node.finish(pod)
    scene.await_inactive(ended)


def test_who_runs_a_namespace_writes_no_rules(scene: Governed) -> None:
    path = f"{AUDIENCES}/{scene.namespace}"
    change = {"spec": {"allow": [rule("true")]}}
    assert scene.edit.patch(path, change).status == 403
