"""docs/hooks.md: each proxy lets through whom the verifier knows, tells the service who it is, and fails closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from countersign.verifier.authorize import IDENTITY
from tests.stack import proxies
from tests.stack.governed import Governed
from tests.stack.hooked import Hooked, hooked
from tests.stack.objects import revocation
from tests.stack.proxies import reached

AWAY = {"nginx": 503, "nginx without njs": 503, "caddy": 502, "traefik": 500, "envoy": 503}
"""What a client gets while there is no verifier."""
TOO_OFTEN = {"nginx": 503, "nginx without njs": 503, "caddy": 429, "traefik": 429, "envoy": 429}


@pytest.fixture(scope="module", params=list(proxies.KINDS), ids=lambda kind: kind.replace(" ", "-"))
def hook(request: pytest.FixtureRequest, governed: Governed) -> Iterator[Hooked]:
    with hooked(request.param, governed) as running:
        yield running


def test_the_service_learns_who_calls_and_for_what_the_call_is(hook: Hooked) -> None:
    answer = hook.proxy.ask(hook.token, "/accounts/7?page=2", method="POST", body={"sum": 3})
    headers = reached(answer)
    meta = hook.pod["metadata"]
    grant = hook.countersign.grant_of(hook.pod, state="Active")
    assert {name: headers[name] for name in headers if name.startswith("countersign-")} == {
        "countersign-subject": f"system:serviceaccount:{meta['namespace']}:worker",
        "countersign-namespace": meta["namespace"],
        "countersign-service-account": "worker",
        "countersign-pod": meta["name"],
        "countersign-pod-uid": meta["uid"],
        "countersign-grant": grant["metadata"]["name"],
        "countersign-owner": "payments@example.com",
        "countersign-audience": hook.governed.audience,
        "countersign-token-id": hook.governed.introspect(hook.token)["jti"],
    }
    assert len(IDENTITY) == 9
    assert (answer.body["method"], answer.body["path"]) == ("POST", "/accounts/7?page=2")
    assert answer.body["body"] == '{"sum": 3}'


def test_the_token_ends_at_the_proxy(hook: Hooked) -> None:
    headers = reached(hook.proxy.ask(hook.token))
    assert hook.token not in str(headers)
    assert hook.governed.asker not in str(headers)


def test_without_a_token_that_counts_nothing_reaches_the_service(hook: Hooked) -> None:
    missing = hook.proxy.ask()
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, 'Bearer realm="countersign.dev"')
    junk = hook.proxy.ask("junk")
    assert junk.status == 401
    assert junk.headers["WWW-Authenticate"] == 'Bearer realm="countersign.dev", error="invalid_token"'
    assert hook.proxy.send("/", {"Authorization": f"Basic {hook.token}"}).status == 401


def test_a_path_that_does_not_ask_is_open_and_says_of_nobody_that_it_is_known(hook: Hooked) -> None:
    headers = reached(hook.proxy.ask(hook.token, "/public/page"))
    assert not [name for name in headers if name.startswith("countersign")]


def test_a_revoked_pod_is_refused_at_its_next_request(hook: Hooked) -> None:
    governed = hook.governed
    pod = governed.running()
    token = governed.token(pod)
    assert hook.proxy.ask(token).status == 200
    name = hook.countersign.grant_of(pod)["metadata"]["name"]
    governed.lab.admin.post(
        f"/apis/countersign.dev/v1alpha1/namespaces/{governed.namespace}/revocations",
        revocation(governed.namespace, {"grant": {"name": name}}),
        expect=201,
    )
    governed.await_inactive(token)
    assert hook.proxy.ask(token).status == 401
    assert hook.proxy.ask(hook.token).status == 200


def test_a_new_token_of_the_proxys_own_is_taken_up_while_it_runs(hook: Hooked) -> None:
    lab = hook.governed.lab
    hook.write_asker(hook.countersign.asker(hook.governed.namespace, "default"))  # no introspector
    lab.wait_for(lambda: hook.proxy.ask(hook.token).status == 401, what=f"{hook.kind} asks with the other token")
    hook.write_asker("junk")
    lab.wait_for(lambda: hook.proxy.ask(hook.token).status == 403, what=f"{hook.kind} asks with junk")
    hook.write_asker(hook.governed.asker)
    lab.wait_for(lambda: hook.proxy.ask(hook.token).status == 200, what=f"{hook.kind} asks with the right token again")


def test_a_proxy_that_asks_too_often_lets_nobody_through(hook: Hooked) -> None:
    hook.countersign.start_service("verifier", key="scarce", asker_rate="0.01", asker_burst="4")
    try:
        with hooked(hook.kind, hook.governed, verifier="scarce") as scarce:
            statuses = [scarce.proxy.ask(scarce.token).status for _ in range(8)]
    finally:
        hook.countersign.stop("scarce")
    assert set(statuses) <= {200, TOO_OFTEN[hook.kind]}
    assert statuses[-1] == TOO_OFTEN[hook.kind]


def test_without_a_verifier_nobody_gets_through(hook: Hooked) -> None:
    hook.countersign.start_service("verifier", key="away")
    try:
        with hooked(hook.kind, hook.governed, verifier="away") as cut_off:
            assert cut_off.proxy.ask(cut_off.token).status == 200
            hook.countersign.kill("away")
            assert cut_off.proxy.ask(cut_off.token).status == AWAY[hook.kind]
            assert cut_off.proxy.ask().status == AWAY[hook.kind]
    finally:
        if "away" in hook.countersign.services:
            hook.countersign.stop("away")
