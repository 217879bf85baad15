"""What a change of policies would do to the pods that run: who would be refused, suspended, restored, given what.

A pure comparison of two verdicts on one pod, of now and of then: as it would be created again, and as it lives.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from countersign.api.grant import WorkloadGrant
from countersign.grants import impact
from countersign.grants.impact import Impact, Limits
from countersign.grants.lifecycle import Qualification
from countersign.grants.naming import is_refused
from countersign.trust.policies.policy import Policy
from countersign.trust.verdicts.verdict import Verdict

Admission = Literal["", "refused", "admitted", "unknown"]
"""What becomes of it at its next creation, where that changes; `unknown`: a registry could not tell."""
GrantChange = Literal["", "suspended", "resumed"]

_BY_POLICY: Final = frozenset({"NoLongerQualifies", "NotQualified"})
"""Why a grant is suspended that a policy can bring back."""


class Instance(NamedTuple):
    """One running pod under the policies of now and of then."""

    uid: str
    now: Verdict
    then: Verdict
    """Both as it would be created again (`trust.verdicts.outlook`)."""
    grant: WorkloadGrant | None
    qualified_now: Qualification | None
    qualified_then: Qualification | None
    """Both as it lives (`judgement.requalify`)."""


class Foreseen(NamedTuple):
    """What the change means for it."""

    admission: Admission
    grant: GrantChange
    held: bool
    """The suspension would wait for acceptImpact."""
    lost: tuple[str, ...]
    """Audiences whose tokens its next creation gives it no more."""
    gained: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether it is concerned at all."""
        return bool(self.admission or self.grant or self.lost or self.gained)


def foresee(
    instances: Iterable[Instance], policies: Mapping[str, Policy], limits: Limits
) -> tuple[list[Foreseen], dict[str, Impact]]:
    """What the change means for each instance, and the impacts that the brake would weigh. `policies`: those of then,
    by UID, with the generations that they will have.
    """
    every = list(instances)
    losing: dict[str, set[str]] = {}
    active: dict[str, set[str]] = {}
    blame: dict[str, frozenset[str]] = {}
    for one in every:
        if one.grant is None or one.grant.status.state != "Active":
            continue
        for resting in one.grant.spec.policies:
            active.setdefault(resting.uid, set()).add(one.uid)
        if impact.loses(one.grant, one.qualified_then):
            blame[one.uid] = impact.blamed(one.grant, one.qualified_then, policies)
            for uid in blame[one.uid]:
                losing.setdefault(uid, set()).add(one.uid)
    impacts = impact.weigh(losing, active, policies, limits)
    return [_foreseen(one, impact.is_held(blame.get(one.uid, frozenset()), impacts)) for one in every], impacts


def _foreseen(one: Instance, held: bool) -> Foreseen:
    admission = admission_change(one.now, one.then)
    grant = grant_change(one)
    now, then = _audiences(one.now), _audiences(one.then)
    open_ = any(finding.transient for verdict in (one.now, one.then) for finding in verdict.findings)
    return Foreseen(
        admission=admission,
        grant=grant,
        held=held and grant == "suspended",
        lost=() if open_ else tuple(sorted(now - then)),
        gained=() if open_ else tuple(sorted(then - now)),
    )


def admission_change(now: Verdict, then: Verdict) -> Admission:
    """How its next creation ends otherwise than it would now."""
    before, after = _end(now), _end(then)
    if after == "unknown":
        return "unknown"
    if after == before:
        return ""
    return after if before != "unknown" or after == "refused" else ""


def grant_change(one: Instance) -> GrantChange:
    """What becomes of its grant. Orders, lost nodes and the like are no matter of policy, and stay as they are."""
    grant = one.grant
    if grant is None or is_refused(grant.metadata.name):
        return ""
    lost_now, lost_then = impact.loses(grant, one.qualified_now), impact.loses(grant, one.qualified_then)
    if grant.status.state == "Active" and lost_then and not lost_now:
        return "suspended"
    if grant.status.state == "Suspended" and grant.status.reason in _BY_POLICY and not lost_then:
        return "resumed"
    return ""


def _end(verdict: Verdict) -> Literal["refused", "admitted", "unknown"]:
    if not verdict.denials:
        return "admitted"
    return "unknown" if verdict.retry else "refused"


def _audiences(verdict: Verdict) -> frozenset[str]:
    return frozenset() if verdict.denials else frozenset(token.audience for token in verdict.tokens)
