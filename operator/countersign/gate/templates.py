"""`/validate` on what makes pods: a warning at `kubectl apply`, never a refusal and never a change.

The pod that the template would make is judged as far as it can be before it exists: its requester will be a controller,
other webhooks may still change it, and nothing is injected yet. Whatever goes wrong here, the object is admitted.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
import structlog

from countersign.api.admission import AdmissionRequest
from countersign.api.meta import ObjectMeta
from countersign.api.pod import Pod, PodSpec
from countersign.api.schema import Model
from countersign.gate.answers import Answer, RefuseNow, allow, as_warnings
from countersign.gate.app import Asked, Handler
from countersign.gate.evidence.inquiry import EvidenceSource, evidence_for
from countersign.gate.state import GateState
from countersign.gate.subjects import Subjects, read
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.pods.subject import ControllerLink
from countersign.trust.verdicts import denial
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Verdict, judge

TEMPLATE_SECONDS: Final = 2.0
"""Nobody waits longer than this at `kubectl apply` for the sake of a warning."""
WOULD_BE_REFUSED: Final = "pods of this template would be refused: "

_UNKNOWABLE: Final = frozenset({"RequesterNotBound"})
"""Findings that say nothing about a pod before somebody asks for it."""

_log = structlog.get_logger()


class _Kind(NamedTuple):
    group: str
    resource: str
    kind: str


KINDS: Final = (
    _Kind("apps", "deployments", "Deployment"),
    _Kind("apps", "statefulsets", "StatefulSet"),
    _Kind("apps", "daemonsets", "DaemonSet"),
    _Kind("batch", "jobs", "Job"),
    _Kind("batch", "cronjobs", "CronJob"),
)


class PodTemplate(Model, frozen=True, kw_only=True):
    """PodTemplateSpec (core/v1)."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class JobSpec(Model, frozen=True, kw_only=True):
    """The part of a JobSpec that makes pods."""

    template: PodTemplate = PodTemplate()


class JobTemplate(Model, frozen=True, kw_only=True):
    """JobTemplateSpec (batch/v1)."""

    spec: JobSpec = JobSpec()


class TemplateSpec(Model, frozen=True, kw_only=True):
    """The part of a workload's spec that makes pods: `template`, or `jobTemplate` in a CronJob."""

    template: PodTemplate = PodTemplate()
    job_template: JobTemplate | None = None


class Workload(Model, frozen=True, kw_only=True):
    """Any object that makes pods."""

    metadata: ObjectMeta = ObjectMeta()
    spec: TemplateSpec = TemplateSpec()


WORKLOAD: Final = msgspec.json.Decoder(Workload)


class TemplateAdviser:
    """Answers the reviews of `/validate` on workloads."""

    def __init__(self, state: GateState, subjects: Subjects, evidence: EvidenceSource) -> None:
        self._state = state
        self._subjects = subjects
        self._evidence = evidence

    def routes(self) -> dict[Asked, Handler]:
        """What it judges."""
        return {
            Asked(one.group, "v1", one.resource, "", operation): self.advise
            for one in KINDS
            for operation in ("CREATE", "UPDATE")
        }

    async def advise(self, request: AdmissionRequest, until: float) -> Answer:
        """Allowed, with what its pods would be told."""
        try:
            return await self._advise(request, until)
        except RefuseNow as refused:
            return Answer(allowed=True, reason="NotJudged", audit={"not-judged": refused.answer.reason})
        except Exception:
            _log.exception("template could not be judged", review=request.uid)
            return allow("NotJudged")

    async def _advise(self, request: AdmissionRequest, until: float) -> Answer:
        until = min(until, asyncio.get_running_loop().time() + TEMPLATE_SECONDS)
        workload = read(request.object, WORKLOAD, "the workload")
        pod = _pod_of(workload, request.namespace)
        found = await self._subjects.of(pod, request.namespace, None, until)
        if not found.policies:
            return allow("NotGoverned")
        controller = ControllerLink(
            api_group=request.resource.group,
            kind=request.kind.kind,
            name=request.name or workload.metadata.name,
            uid=workload.metadata.uid,
        )
        subject = msgspec.structs.replace(found.subject, controller=controller, controller_known=True)
        evidence = await evidence_for(
            self._evidence, evidence_needs(found.policies, pod, self._state.snapshot.roots), None, subject, until
        )
        verdict = judge(self._state.snapshot, subject, evidence, stage="mutate", now=datetime.now(UTC))
        # What could not be found out in time is no news to the author; the pods' own admission will ask again.
        findings = [one for one in verdict.findings if one.code not in _UNKNOWABLE and not one.transient]
        refused = [finding for finding in findings if finding.is_denial]
        lines = [
            *(WOULD_BE_REFUSED + line for line in _lines(verdict, refused)),
            *_lines(verdict, [finding for finding in findings if finding.mode == "Warn"]),
        ]
        judged = msgspec.structs.replace(verdict, findings=tuple(findings))
        return Answer(
            allowed=True,
            reason=findings[0].code if findings else "Admitted",
            warnings=as_warnings(lines),
            audit=denial.audit_annotations(judged),
        )


def _lines(verdict: Verdict, findings: list[Finding]) -> tuple[str, ...]:
    """One line for each of the findings, as of a policy that warns."""
    warned = tuple(msgspec.structs.replace(finding, mode="Warn") for finding in findings)
    return denial.warnings(msgspec.structs.replace(verdict, findings=warned))


def _pod_of(workload: Workload, namespace: str) -> Pod:
    template = workload.spec.template
    if workload.spec.job_template is not None:
        template = workload.spec.job_template.spec.template
    return Pod(
        metadata=msgspec.structs.replace(template.metadata, namespace=namespace, owner_references=()),
        spec=template.spec,
    )
