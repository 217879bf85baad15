"""From a verdict to an answer: the one place that says what is denied, retried, warned about and put on record."""

from collections.abc import Mapping
from typing import Final

from countersign.gate.answers import Answer, as_warnings, deny, retry_later
from countersign.runtime.logs import pod_keys
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.pods.subject import Subject
from countersign.trust.verdicts import denial
from countersign.trust.verdicts.verdict import Evidence, Verdict

MAX_UID: Final = 64
"""Characters; the API server makes UIDs of 36."""


def refusal(verdict: Verdict, subject: Subject, *, unresolved: bool = False) -> Answer | None:
    """The answer that keeps the pod out; None if nothing does.

    `unresolved`: the pod's controllers could not be read just now, so that a finding about them may pass next time.
    """
    denials = verdict.denials
    if not denials:
        return None
    facts = _facts(verdict, subject)
    audit = {**denial.audit_annotations(verdict), **instance(subject.pod.metadata.uid)}
    text = denial.message(verdict)
    if verdict.retry:
        return retry_later("VerificationTimeout", text, audit=audit, facts=facts)
    if unresolved and all(one.transient or one.code == "ControllerNotBound" for one in denials):
        text = "ControllersUnread: could not read the pod's controllers in time, will be retried"
        return retry_later("ControllersUnread", text, audit=audit, facts=facts)
    return deny(denials[0].code, text, audit=audit, facts=facts)


def admission(
    verdict: Verdict,
    subject: Subject,
    evidence: Evidence,
    *,
    patch: bytes | None = None,
    warn: bool = False,
) -> Answer:
    """The answer that lets the pod in. `warn`: with the warnings, which only one of the two webhooks gives."""
    return Answer(
        allowed=True,
        reason=verdict.findings[0].code if verdict.findings else "Admitted",
        patch=patch,
        warnings=as_warnings(denial.warnings(verdict)) if warn and verdict.findings else (),
        audit={
            **denial.audit_annotations(verdict),
            **digests(evidence),
            **instance(subject.pod.metadata.uid),
        },
        facts=_facts(verdict, subject) if verdict.findings else {},
    )


def digests(evidence: Evidence) -> Mapping[str, str]:
    """For the audit log: what each image stands for."""
    known = [f"{found.image}@{found.digest}" for found in evidence.values() if isinstance(found, ImageFacts)]
    return {"digests": ", ".join(dict.fromkeys(known))} if known else {}


def instance(pod_uid: str) -> Mapping[str, str]:
    """For the audit log, whose line of a creation has no UID: the pod's, which `/validate` is the first to be told."""
    return {"pod-uid": denial.clean(pod_uid, MAX_UID)} if pod_uid else {}


def _facts(verdict: Verdict, subject: Subject) -> Mapping[str, object]:
    meta = subject.pod.metadata
    return {
        **pod_keys(subject.namespace.name, meta.name or meta.generate_name, meta.uid),
        "policies": [str(policy.ref) for policy in verdict.governed],
        "codes": sorted({finding.code for finding in verdict.findings}),
    }
