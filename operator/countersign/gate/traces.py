"""What the span of a review says: the correlation keys of its log line."""

from typing import Final

from countersign.api.admission import AdmissionRequest
from countersign.gate.answers import Answer
from countersign.runtime.tracing import context
from countersign.runtime.tracing.spans import Value

HEADER: Final = context.HEADER
"""kube-apiserver sends it where its tracing is on (KEP-647)."""


def of_review(path: str, request: AdmissionRequest, answer: Answer) -> dict[str, Value]:
    """Attributes. The pod's own UID is not known before it was stored; the review's is in the audit log as well."""
    resource = request.resource.resource
    facts = answer.facts
    found: dict[str, Value] = {
        "countersign.path": path,
        "countersign.review": request.uid,
        "countersign.resource": f"{resource}/{request.sub_resource}" if request.sub_resource else resource,
        "countersign.operation": request.operation,
        "countersign.result": answer.result,
        "countersign.reason": answer.reason,
        "countersign.dry_run": request.dry_run,
        "k8s.namespace.name": request.namespace,
        "k8s.object.name": request.name,
        "k8s.pod.uid": str(facts.get("pod_uid") or ""),
        "countersign.grant": str(facts.get("grant") or ""),
        "countersign.jti": str(facts.get("jti") or ""),
    }
    for name in ("policies", "codes"):
        listed = facts.get(name)
        if isinstance(listed, list):
            found[f"countersign.{name}"] = " ".join(map(str, listed))
    return found
