"""Objects that tests, demo and benchmarks create: as a developer, a platform team or a cluster admin writes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from countersign.api.names import API_VERSION

Object = dict[str, Any]


def container(image: str, name: str = "app", **more: Any) -> Object:
    """A container, with the members of `more` as they are."""
    return {"name": name, "image": image, **more}


def pod_spec(*containers: Object, service_account: str = "default", **more: Any) -> Object:
    """A pod's spec."""
    return {"serviceAccountName": service_account, "containers": list(containers), **more}


def pod(name: str, namespace: str, spec: Object, labels: Mapping[str, str] | None = None, **metadata: Any) -> Object:
    """A bare pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {}), **metadata},
        "spec": spec,
    }


def deployment(name: str, namespace: str, spec: Object, *, replicas: int = 1) -> Object:
    """A Deployment whose pods bear the label app=<name>."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def job(name: str, namespace: str, spec: Object) -> Object:
    """A Job of one completion whose pod bears the label app=<name>."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Never", **spec}},
        },
    }


def service_account(name: str, namespace: str) -> Object:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def protected_audience(
    name: str,
    audience: str,
    *,
    mode: str = "Enforce",
    introspectors: Iterable[tuple[str, str]] = (),
    **spec: Any,
) -> Object:
    """A ProtectedAudience; introspectors are (namespace, service account)."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ProtectedAudience",
        "metadata": {"name": name},
        "spec": {
            "audience": audience,
            "owner": "ledger-team@example.com",
            "mode": mode,
            "introspectors": [
                {"kind": "ServiceAccount", "namespace": namespace, "name": account}
                for namespace, account in introspectors
            ],
            **spec,
        },
    }


def image_rule(
    globs: Sequence[str], keys: Sequence[str] = (), digests: Sequence[str] = (), name: str = "images"
) -> Object:
    """A rule that images must be signed by one of the PEM keys, or be one of the digests."""
    rule: Object = {"name": name, "globs": list(globs)}
    if keys:
        rule["authorities"] = [{"name": "release", "key": {"pem": list(keys)}}]
    if digests:
        rule["digests"] = list(digests)
    return rule


def token(audience: str, name: str = "ledger", **more: Any) -> Object:
    """A token that admitted pods receive."""
    return {"name": name, "audience": audience, "envVar": f"{name.upper()}_TOKEN_FILE", **more}


def cluster_policy(
    name: str,
    *,
    namespaces: Mapping[str, str],
    images: Sequence[Object],
    tokens: Sequence[Object] = (),
    mode: str = "Enforce",
    **spec: Any,
) -> Object:
    """A ClusterTrustPolicy for namespaces with these labels."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterTrustPolicy",
        "metadata": {"name": name},
        "spec": {
            "owner": "payments@example.com",
            "mode": mode,
            "match": {"namespaceSelector": {"matchLabels": dict(namespaces)}},
            "images": list(images),
            "tokens": list(tokens),
            **spec,
        },
    }


def trust_policy(
    name: str,
    namespace: str,
    *,
    images: Sequence[Object],
    tokens: Sequence[Object] = (),
    mode: str = "Enforce",
    **spec: Any,
) -> Object:
    """A TrustPolicy of a namespace's owner."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TrustPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"owner": "team@example.com", "mode": mode, "images": list(images), "tokens": list(tokens), **spec},
    }


def revocation(namespace: str, target: Object, reason: str = "leaked") -> Object:
    """An order to end grants."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Revocation",
        "metadata": {"generateName": "order-", "namespace": namespace},
        "spec": {"target": target, "reason": reason},
    }


def admission_pause(expires_at: str, reason: str = "outage", **spec: Any) -> Object:
    """Break-glass."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AdmissionPause",
        "metadata": {"generateName": "pause-"},
        "spec": {"reason": reason, "expiresAt": expires_at, **spec},
    }


def evidence_root(name: str, **sigstore: Any) -> Object:
    """An EvidenceRoot; one of `trustedRoot`, `configMapRef` and `tuf`."""
    return {
        "apiVersion": API_VERSION,
        "kind": "EvidenceRoot",
        "metadata": {"name": name},
        "spec": {"sigstore": sigstore},
    }


def trust_exception(
    name: str, policies: Sequence[str], waives: Sequence[str], match: Object, expires_at: str, **spec: Any
) -> Object:
    """An exemption from checks of these ClusterTrustPolicies."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TrustException",
        "metadata": {"name": name},
        "spec": {
            "policyRefs": [{"kind": "ClusterTrustPolicy", "name": policy} for policy in policies],
            "match": match,
            "waives": [{"check": check} for check in waives],
            "owner": "legacy@example.com",
            "reason": "the vendor signs from May on",
            "expiresAt": expires_at,
            **spec,
        },
    }


_PLURALS = {"NetworkPolicy": "networkpolicies", "PriorityClass": "priorityclasses"}
_CLUSTER_SCOPED = frozenset(
    {
        "Namespace",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterTrustPolicy",
        "ProtectedAudience",
        "AdmissionPause",
        "EvidenceRoot",
        "TrustException",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "PriorityClass",
        "Node",
    }
)


def collection_path(obj: Object) -> str:
    """Path of the collection that the object belongs to."""
    group, _, version = obj["apiVersion"].rpartition("/")
    kind = obj["kind"]
    plural = _PLURALS.get(kind) or (kind.lower()[:-1] + "ies" if kind.lower().endswith("y") else kind.lower() + "s")
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    if kind in _CLUSTER_SCOPED:
        return f"{base}/{plural}"
    return f"{base}/namespaces/{obj['metadata']['namespace']}/{plural}"


def object_path(obj: Object) -> str:
    """Path of the object."""
    return f"{collection_path(obj)}/{obj['metadata']['name']}"
