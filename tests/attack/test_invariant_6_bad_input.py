"""Invariant 6: bad input to any port gets a clear error and changes nothing. Nothing is allowed for want of sense."""

import json

import pytest

from tests.lab.http import HttpClient
from tests.stack.governed import Governed
from tests.stack.installation import Installation, introspect

REVIEW = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
POD = {"group": "", "version": "v1", "kind": "Pod"}
PODS = {"group": "", "version": "v1", "resource": "pods"}


@pytest.fixture(scope="module")
def gate(countersign: Installation) -> HttpClient:
    return countersign.client("gate")


def _request(**more: object) -> dict[str, object]:
    request = {"uid": "1", "kind": POD, "resource": PODS, "operation": "CREATE", "namespace": "nowhere", "object": {}}
    return {**REVIEW, "request": {**request, **more}}


@pytest.mark.parametrize("path", ["/mutate", "/validate"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        json.dumps(REVIEW).encode(),
        json.dumps({**_request(), "apiVersion": "admission.k8s.io/v1beta1"}).encode(),
        json.dumps({**_request(), "kind": "Pod"}).encode(),
        json.dumps(_request(object="a string")).encode(),
        json.dumps(_request(object={"spec": {"containers": "none"}})).encode(),
        json.dumps(_request(object=None)).encode(),
        json.dumps(
            _request(
                kind={"group": "x", "version": "v1", "kind": "Widget"},
                resource={"group": "x", "version": "v1", "resource": "widgets"},
            )
        ).encode(),
        json.dumps(_request(operation="EXPLODE")).encode(),
        b"[" * 100_000,
        b'{"request":' * 50_000,
    ],
)
def test_the_gate_allows_nothing_that_it_cannot_read(gate: HttpClient, path: str, body: bytes) -> None:
    answer = gate.request("POST", path, body)
    allowed = isinstance(answer.body, dict) and answer.body.get("response", {}).get("allowed")
    assert answer.status >= 400 or allowed is False, f"{answer.status} {answer.data[:300]!r}"
    assert b"Traceback" not in answer.data


def test_the_gate_refuses_what_is_too_large(gate: HttpClient) -> None:
    answer = gate.request("POST", "/mutate", b" " * (32 * 1024 * 1024))
    assert answer.status == 413


@pytest.mark.parametrize("path", ["/", "/typo", "/mutate/", "/validate/pods", "/metrics", "/mutate/pods"])
def test_the_gate_knows_two_paths_only(gate: HttpClient, path: str) -> None:
    assert gate.post(path, _request()).status in {400, 404}


def test_the_gate_takes_nothing_but_posts(gate: HttpClient) -> None:
    assert gate.get("/mutate").status == 405


GARBAGE = ["", "x", "a.b.c", "e30.e30.", "." * 1000, "%00%ff", "A" * 200_000, "eyJhbGciOiJub25lIn0.e30."]


def test_the_verifier_says_inactive_to_garbage_and_asks_the_api_server_nothing_about_it(governed: Governed) -> None:
    client = governed.countersign.verifier_client()
    introspect(client, "warm-up", governed.asker)
    before = len(governed.lab.audit_events(resource="tokenreviews"))
    for token in GARBAGE * 5:
        answer = introspect(client, token, governed.asker)
        assert answer.status in {200, 400, 413}, answer.status
        if answer.status == 200:
            assert answer.data == b'{"active": false}'
    # The asker itself is confirmed anew every few seconds; what it asks about never is.
    assert len(governed.lab.audit_events(resource="tokenreviews")) - before <= 2


def test_an_unknown_asker_and_an_unknown_token_get_the_same_bytes(governed: Governed) -> None:
    client = governed.countersign.verifier_client()
    token = governed.token(governed.running())
    answers = {
        introspect(client, token, "garbage").data,
        introspect(client, "garbage", governed.asker).data,
        introspect(client, token, token).data,
    }
    assert answers == {b'{"active": false}'}
