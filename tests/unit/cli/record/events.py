"""Lines as the API server's audit log and our services write them, for tests of what is read from them."""

from __future__ import annotations

import json
from typing import Any

DAY = "2026-03-01T"
UID = "3f1c2e3a-0000-4000-8000-000000000001"
OTHER = "3f1c2e3a-0000-4000-8000-000000000002"
JTI = "7a7a7a7a-0000-4000-8000-000000000009"
GRANT = "wg-0123456789abcdef"


def audit(
    at: str, verb: str, resource: str, name: str = "", *, sub: str = "", who: str = "dev", code: int = 201, **more: Any
) -> bytes:
    """An audit event; `at` is a time of the day, and names the request."""
    event = {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": f"{at}-{resource}-{sub}",
        "stage": "ResponseComplete", "requestURI": "/x", "verb": verb, "user": {"username": who},
        "sourceIPs": ["192.0.2.9"],
        "objectRef": {"resource": resource, "subresource": sub, "namespace": "shop", "name": name},
        "responseStatus": {"code": code}, "requestReceivedTimestamp": f"{DAY}{at}Z", "stageTimestamp": f"{DAY}{at}Z",
    }  # fmt: skip
    return json.dumps(event | more).encode() + b"\n"


def access(at: str, *, jti: str = JTI, uid: str = UID, active: bool = True, reason: str = "Active") -> bytes:
    """A line of the access log."""
    line = {
        "time": f"{DAY}{at}Z", "log": "access", "event": "decision", "decision": at, "endpoint": "introspect",
        "active": active, "reason": reason, "asker": "ledger/api", "seconds": 0.1, "jti": jti, "audience": "ledger",
        "namespace": "shop", "pod": "shop/api", "pod_uid": uid, "grant": f"shop/{GRANT}",
    }  # fmt: skip
    return json.dumps(line).encode() + b"\n"


def admitted(at: str, *, name: str = "api", uid: str = UID) -> bytes:
    annotations = {"pods-0.validate.countersign.dev/verdict": "allow"}
    return audit(at, "create", "pods", name, annotations=annotations | {"pods-0.validate.countersign.dev/pod-uid": uid})


def minted(at: str, *, uid: str = UID, jti: str = JTI, code: int = 201, pod: str = "shop/api") -> bytes:
    prefix = "tokens-allow-0.validate.countersign.dev/"
    annotations = {
        f"{prefix}pod": pod, f"{prefix}pod-uid": uid, f"{prefix}mint": "allowed",
        "authentication.kubernetes.io/issued-credential-id": f"JTI={jti}",
    }  # fmt: skip
    if code >= 400:
        del annotations["authentication.kubernetes.io/issued-credential-id"]
    return audit(
        at, "create", "serviceaccounts", "worker", sub="token", who="system:node:n1", code=code,
        annotations=annotations,
    )  # fmt: skip
