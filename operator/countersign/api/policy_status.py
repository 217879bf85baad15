"""What the controller tells of a policy."""

from typing import Annotated

from countersign.api.meta import Condition, UTCTime
from countersign.api.responses import EffectiveSettings
from countersign.api.schema import Model, doc


class PodCounts(Model, frozen=True, kw_only=True):
    """How many running pods the policy sees."""

    governed: Annotated[int, doc("Pods that the policy governs.")] = 0
    failing: Annotated[
        int,
        doc("Governed pods that would be refused if they were created now and the policy enforced, whatever its mode."),
    ] = 0
    unknown: Annotated[
        int, doc("Governed pods of which that is not known: no registry was asked yet, or it could not tell.")
    ] = 0
    not_injected: Annotated[int, doc("Governed pods that would be given tokens but were created without them.")] = 0
    evidence_expiring: Annotated[
        int,
        doc(
            "Governed pods with an attestation that this policy asks for and that will soon be too old: less than a tenth "
            "of maxAgeSeconds is left, and no newer one was found."
        ),
    ] = 0
    evidence_withdrawn: Annotated[
        int,
        doc("Governed pods whose evidence does not hold any more for this policy: too old, or a later one fails."),
    ] = 0
    missed: Annotated[
        int,
        doc(
            "Governed pods that were never admitted under it, and so have no identity: created before it, while no gate "
            "answered, or around it. `countersign adopt` lists them."
        ),
    ] = 0


class ReasonCount(Model, frozen=True, kw_only=True):
    """How often a reason speaks against pods."""

    reason: Annotated[str, doc("Stable reason code.", max_length=64)]
    count: Annotated[int, doc("Pods, or admissions, with this finding.")]


class GateTally(Model, frozen=True, kw_only=True):
    """What one gate has counted of a policy since that gate started. Such numbers only ever grow."""

    gate: Annotated[
        str, doc("Name that the gate's process gave itself: when it started, and something random.", max_length=64)
    ]
    allowed: Annotated[int, doc("Pods against which the policy had nothing.")] = 0
    would_deny: Annotated[int, doc("Pods that the policy refused, or would refuse under Enforce.")] = 0
    unknown: Annotated[int, doc("Pods whose evidence could not be had in time.")] = 0
    reasons: Annotated[
        tuple[ReasonCount, ...], doc("Why, among those of wouldDeny.", max_length=64, map_keys=("reason",))
    ] = ()


class AdmissionCounts(Model, frozen=True, kw_only=True):
    """Admissions since the policy's last change, over all gates, whatever its mode. Dry runs do not count."""

    generation: Annotated[int, doc("The generation of the policy that the counts are of.")] = 0
    since: Annotated[UTCTime, doc("When the controller first saw that generation.", string_format="date-time")]
    allowed: Annotated[int, doc("Creations of pods against which the policy had nothing.")] = 0
    would_deny: Annotated[int, doc("Creations that it refused (Enforce), or would have refused (Warn, Audit).")] = 0
    unknown: Annotated[int, doc("Creations whose evidence could not be had in time.")] = 0
    top_reasons: Annotated[tuple[ReasonCount, ...], doc("The most frequent reasons of wouldDeny.", max_length=5)] = ()
    gates: Annotated[
        tuple[GateTally, ...],
        doc("What was collected from each gate: the totals are their sum.", max_length=16, map_keys=("gate",)),
    ] = ()
    earlier: Annotated[
        GateTally | None, doc("Of gates that are no longer listed, together; `gate` is the latest of them.")
    ] = None


class PolicyStatus(Model, frozen=True, kw_only=True):
    """What the controller sees of a policy."""

    conditions: Annotated[
        tuple[Condition, ...],
        doc(
            "Accepted (well-formed, no conflict), ResolvedRefs (audiences exist and allow it), Ready, ImpactHeld, EvidenceExpiring.",
            max_length=16,
            map_keys=("type",),
        ),
    ] = ()
    observed_generation: Annotated[int, doc("The generation that the controller last judged.")] = 0
    effective: Annotated[
        EffectiveSettings | None, doc("What the policy says together with what its profile says for the rest.")
    ] = None
    pods: Annotated[PodCounts | None, doc("Running pods under this policy.")] = None
    top_reasons: Annotated[
        tuple[ReasonCount, ...], doc("The most frequent reasons among the failing pods.", max_length=5)
    ] = ()
    admissions: Annotated[AdmissionCounts | None, doc("What became of new pods since the policy's last change.")] = None
