"""An admitted pod with its receipt, as gate and API server leave it, and the grant that it gets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from countersign.api import clock
from countersign.api.grant import WorkloadGrant, WorkloadGrantStatus
from countersign.api.meta import ObjectMeta
from countersign.api.pod import Pod
from countersign.grants.judgement import InstanceJudgement, SpentReceipt, judge_instance
from countersign.grants.lifecycle import Observation, Qualification, next_status, status_after
from countersign.grants.tracking import PodTrack, first_sight
from countersign.injection.patch import inject
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.receipt import make
from countersign.trust.verdicts.verdict import judge
from tests.unit.trust.build import PINNED, cluster_policy, container, evidence_for, pod, snapshot, subject, token

BORN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCOUNT_UID = "account-uid"
RECEIPT_HASH = "sha256:" + "0" * 64
POLICY = cluster_policy(tokens=(token(),))
GIVEN = snapshot(POLICY)


def at(seconds: float) -> datetime:
    return BORN + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    return clock.format_time(at(seconds))


def live(uid: str = "pod-uid", *, image: str = PINNED, labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    """A pod as it is after creation, but for what the gate puts in."""
    metadata = {"uid": uid, "generation": 1, "creationTimestamp": stamp(0), "labels": labels or {"app": "api"}}
    return pod(container(image=image), metadata=metadata, serviceAccountName="api", **spec)


def admitted(
    given: PolicySnapshot = GIVEN, of: Pod | None = None, *, nonce: str = "nonce-1", found: ImageFacts | None = None
) -> tuple[Subject, SpentReceipt]:
    """The live pod with its tokens injected, and its receipt. Nobody says any more who asked for it."""
    whole = subject(of or live())
    evidence = {key: one for key, one in evidence_for(whole.pod, found).items() if isinstance(one, ImageFacts)}
    verdict = judge(given, whole, evidence, stage="mutate", now=BORN)
    assert not verdict.denials
    injected = msgspec.structs.replace(whole, pod=inject(whole.pod, verdict, {}).pod)
    receipt = make(injected, verdict.governed, evidence, now=BORN, nonce=nonce)
    return msgspec.structs.replace(injected, requester=None), SpentReceipt(receipt, RECEIPT_HASH)


def judged(given: PolicySnapshot = GIVEN, of: Pod | None = None, *, nonce: str = "nonce-1") -> InstanceJudgement:
    found, receipt = admitted(given, of, nonce=nonce)
    judgement = judge_instance(given, found, receipt, ACCOUNT_UID, at(1))
    assert judgement is not None
    return judgement


def recorded(judgement: InstanceJudgement, status: WorkloadGrantStatus | None = None) -> WorkloadGrant:
    meta = ObjectMeta(name=judgement.name, namespace="payments", uid="grant-uid", creation_timestamp=stamp(1))
    return WorkloadGrant(metadata=meta, spec=judgement.spec, status=status or WorkloadGrantStatus())


def active(given: PolicySnapshot = GIVEN, of: Pod | None = None) -> tuple[WorkloadGrant, Observation]:
    """An Active grant and what is seen of a pod with which all is well."""
    found, _ = admitted(given, of)
    judgement = judged(given, of)
    seen = observed(first_sight(found.pod), judgement.qualification)
    return advanced(recorded(judgement), seen, at(1)), seen


def observed(track: PodTrack | None, qualification: Qualification | None, **members: Any) -> Observation:
    return Observation(track=track, qualification=qualification, **{"service_account_uid": ACCOUNT_UID, **members})


def advanced(grant: WorkloadGrant, seen: Observation, now: datetime) -> WorkloadGrant:
    """The grant one step further, as the controller writes it."""
    transition = next_status(grant, seen, now)
    return msgspec.structs.replace(grant, status=status_after(grant.status, transition, seen.track, now))


def changed(of: Pod, *, generation: int | None = None, phase: str = "", **metadata: Any) -> Pod:
    """The pod with another status, or other metadata."""
    meta = msgspec.structs.replace(of.metadata, generation=generation or of.metadata.generation, **metadata)
    status = msgspec.structs.replace(of.status, phase=phase or of.status.phase)
    return msgspec.structs.replace(of, metadata=meta, status=status)


def with_image(of: Pod, image: str) -> Pod:
    containers = tuple(msgspec.structs.replace(one, image=image) for one in of.spec.containers)
    return msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, containers=containers))


def with_debugger(of: Pod, *names: str) -> Pod:
    template = of.spec.containers[0]
    debuggers = tuple(msgspec.structs.replace(template, name=name, image="busybox", volume_mounts=()) for name in names)
    return msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, ephemeral_containers=debuggers))
