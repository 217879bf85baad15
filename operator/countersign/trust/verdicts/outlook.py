"""What each policy for itself would make of a pod if it were created now: refused or not, whatever the mode.

The mode says what follows from a policy's word; this says the word. So a policy under Audit tells beforehand whom it
will refuse under Enforce. Used for running pods (a policy's status, `countersign policy findings`) and for admissions
as they happen (the gate's tallies).
"""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Final, Literal, NamedTuple

import msgspec

from countersign.api.names import TOKEN_MOUNT_ROOT, TOKEN_VOLUME_PREFIX
from countersign.api.pod import Container, Pod
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.needs import EvidenceNeed, covers
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import PolicyRef, PolicySnapshot
from countersign.trust.verdicts.findings import Finding
from countersign.trust.verdicts.verdict import Evidence, Verdict, judge

Outcome = Literal["allowed", "wouldDeny", "unknown"]
"""`unknown`: all that stands against the pod is evidence that could not be had just now."""

NOT_ASKED: Final = "no registry was asked yet"


class Weighed(NamedTuple):
    """The word of one policy about one pod."""

    policy: PolicyRef
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """Codes of the findings that speak against it, each once; of `unknown`, those that may yet."""
    not_injected: bool = False
    """It would be given tokens of this policy that it does not carry."""


def outlook(
    snapshot: PolicySnapshot, subject: Subject, evidence: Evidence, now: datetime, *, admitted: bool
) -> Verdict:
    """The verdict on a running pod as if it were created now, as its controller would make it again.

    `admitted`: it has an admission receipt of ours, and `subject` is as at that time (`receipt.as_admitted`).
    """
    again = msgspec.structs.replace(subject, pod=recreated(subject.pod, admitted=admitted))
    return judge(snapshot, again, evidence, stage="mutate", now=now)


def weigh(verdict: Verdict, subject: Subject, doubtful: Set[str] = frozenset()) -> tuple[Weighed, ...]:
    """The word of each policy that governs the subject, in their order. What nobody can know is held against none:
    who would ask for a pod, where the subject does not say. `doubtful`: codes of findings that rest on something that
    could not be read just now.
    """
    carried = {volume.name for volume in subject.pod.spec.volumes}
    lacking = {token.policy.uid for token in verdict.tokens if TOKEN_VOLUME_PREFIX + token.name not in carried}
    return tuple(
        _weighed(policy.ref, speaking(verdict, policy.ref.uid, subject), policy.ref.uid in lacking, doubtful)
        for policy in verdict.governed
    )


def speaking(verdict: Verdict, policy_uid: str, subject: Subject) -> list[Finding]:
    """The findings by which a policy would refuse the subject's pod under Enforce."""
    return [
        finding
        for finding in verdict.findings
        if finding.denies
        and finding.policy is not None
        and finding.policy.uid == policy_uid
        and not (finding.code == "RequesterNotBound" and subject.requester is None)
    ]


def known(needs: Sequence[EvidenceNeed], facts: Mapping[str, ImageFacts]) -> tuple[Evidence, bool]:
    """Evidence from a receipt's facts alone, and whether it answers every need; the rest is marked as not asked."""
    evidence: dict[str, ImageFacts | Unverifiable] = {}
    for need in needs:
        found = facts.get(need.image)
        answered = found is not None and covers(found, need)
        evidence[need.image] = found if found is not None and answered else _not_asked(need.image)
    return evidence, not any(isinstance(one, Unverifiable) for one in evidence.values())


def recreated(pod: Pod, *, admitted: bool) -> Pod:
    """The pod as its controller would make it again: without debug containers and, if a gate admitted it, without the
    token volumes that the gate put in. In any other pod they are its author's, who would be refused for them.
    """
    spec = pod.spec
    if spec.ephemeral_containers:
        spec = msgspec.structs.replace(spec, ephemeral_containers=())
    if admitted and any(one.name.startswith(TOKEN_VOLUME_PREFIX) for one in spec.volumes):
        spec = msgspec.structs.replace(
            spec,
            volumes=tuple(one for one in spec.volumes if not one.name.startswith(TOKEN_VOLUME_PREFIX)),
            containers=tuple(_without_tokens(one) for one in spec.containers),
            init_containers=tuple(_without_tokens(one) for one in spec.init_containers),
        )
    return pod if spec is pod.spec else msgspec.structs.replace(pod, spec=spec)


def _without_tokens(container: Container) -> Container:
    return msgspec.structs.replace(
        container,
        volume_mounts=tuple(one for one in container.volume_mounts if not one.name.startswith(TOKEN_VOLUME_PREFIX)),
        env=tuple(one for one in container.env if not (one.value or "").startswith(TOKEN_MOUNT_ROOT + "/")),
    )


def _weighed(policy: PolicyRef, findings: Sequence[Finding], not_injected: bool, doubtful: Set[str]) -> Weighed:
    definite = [finding for finding in findings if not finding.transient and finding.code not in doubtful]
    outcome: Outcome = "wouldDeny" if definite else "unknown" if findings else "allowed"
    return Weighed(policy, outcome, _codes(definite or findings), not_injected)


def _codes(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.code for finding in findings))


def _not_asked(image: str) -> Unverifiable:
    return Unverifiable(image, "RegistryUnavailable", NOT_ASKED, True)
