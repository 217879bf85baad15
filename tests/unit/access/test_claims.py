from __future__ import annotations

import json
from typing import Any

import pytest

from countersign.access.claims import MalformedClaimsError, NodeClaim, ObjectClaim, TokenClaims, parse_claims

# As kube-apiserver 1.36 issues them (members and types; values made up).
PAYLOAD: dict[str, Any] = {
    "aud": ["ledger.example.com"],
    "exp": 1772366400,
    "iat": 1772365800,
    "iss": "https://kubernetes.default.svc.cluster.local",
    "jti": "b4b2e2d0-7d4e-4a52-9e1a-6a8a9c0c2f11",
    "kubernetes.io": {
        "namespace": "payments",
        "node": {"name": "n1", "uid": "node-uid"},
        "pod": {"name": "api-7d9c", "uid": "pod-uid"},
        "serviceaccount": {"name": "api", "uid": "sa-uid"},
    },
    "nbf": 1772365800,
    "sub": "system:serviceaccount:payments:api",
}


def without(*path: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(json.dumps(PAYLOAD))
    at = payload
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    return payload


def changed(value: Any, *path: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(json.dumps(PAYLOAD))
    at = payload
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return payload


def read(members: dict[str, Any]) -> TokenClaims:
    return parse_claims(json.dumps(members).encode())


def test_a_bound_token_is_read() -> None:
    claims = read(PAYLOAD)
    assert claims.audiences == ("ledger.example.com",)
    assert claims.pod == ObjectClaim("api-7d9c", "pod-uid")
    assert claims.node == NodeClaim("n1", "node-uid")
    assert claims.service_account == ObjectClaim("api", "sa-uid")
    assert claims.lifetime_seconds == 600


def test_an_audience_may_be_one_string() -> None:
    assert read(changed("vault", "aud")).audiences == ("vault",)


def test_a_token_bound_to_no_pod_is_read_as_such() -> None:
    claims = read(changed({"namespace": "payments", "serviceaccount": {"name": "api", "uid": "u"}}, "kubernetes.io"))
    assert (claims.pod, claims.node) == (None, None)


@pytest.mark.parametrize(
    "payload",
    [
        without("iss"),
        without("sub"),
        without("aud"),
        without("exp"),
        without("iat"),
        without("nbf"),
        without("kubernetes.io"),
        without("kubernetes.io", "namespace"),
        without("kubernetes.io", "serviceaccount"),
        without("kubernetes.io", "serviceaccount", "uid"),
        without("kubernetes.io", "pod", "uid"),
        changed([], "aud"),
        changed([1], "aud"),
        changed(["x"] * 33, "aud"),
        changed("", "iss"),
        changed("1772366400", "exp"),
        changed(1772366400.5, "exp"),
        changed(True, "exp"),
        changed(-1, "iat"),
        changed(10**18, "exp"),
        changed("", "kubernetes.io", "pod", "uid"),
        changed("x" * 254, "kubernetes.io", "pod", "name"),
        changed({"name": "api"}, "kubernetes.io", "pod"),
        changed([], "kubernetes.io"),
        changed("system:serviceaccount:payments:other", "sub"),
        changed("system:serviceaccount:other:api", "sub"),
        changed("admin", "sub"),
    ],
)
def test_anything_else_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(MalformedClaimsError):
        read(payload)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b'"x"', b"\xff\xfe", b"[" * 5000, b" " * 9000])
def test_bytes_that_are_no_payload_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedClaimsError):
        parse_claims(data)


def test_an_error_names_the_member_and_no_value() -> None:
    with pytest.raises(MalformedClaimsError, match="exp") as caught:
        read(changed("s3cret", "exp"))
    assert "s3cret" not in str(caught.value)
