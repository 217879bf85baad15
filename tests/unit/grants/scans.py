"""Images with a scan that must be young, and sometimes the latest one: what is found out about them, and when."""

from __future__ import annotations

import msgspec

from countersign.api.grant import WorkloadGrant
from countersign.api.responses import Responses
from countersign.grants.judgement import judge_instance, requalify
from countersign.grants.lifecycle import next_status, status_after
from countersign.grants.tracking import first_sight
from countersign.grants.withdrawal import EvidenceNow, evidence_now, questions
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import Attestation, ImageFacts
from countersign.trust.policies.policy import DEFAULT_ROOT, Policy, PolicySnapshot, RootFacts
from tests.unit.grants.build import ACCOUNT_UID, BORN, admitted, at, observed, recorded
from tests.unit.trust import build

CLEAN = "predicate.criticals == 0"
MAX_AGE = 3600
FIRST = -600
"""When the scan that admission went by was signed, in seconds from the pod's birth."""
IMAGE = build.PINNED


def asking(
    select: str = "Any", max_age: int | None = MAX_AGE, *, response: str = "Suspend", name: str = "payments"
) -> Policy:
    """A policy by which an image must be signed, and scanned by key 2 of late."""
    want = build.wants(conditions=(CLEAN,), select=select, max_age_seconds=max_age)
    rule = build.rule_by(
        build.keyed("release", 1), attestors=(build.keyed("scanner", 2, root=DEFAULT_ROOT),), attestations=(want,)
    )
    responses = Responses(evidence_withdrawn=response)  # type: ignore[arg-type]
    return build.cluster_policy(name, images=(rule,), tokens=(build.token(),), responses=responses)


def scan(signed: float = FIRST, *, clean: bool = True, anchor: str = "tsa:acme", by: int = 2) -> Attestation:
    """A scan signed so many seconds after the pod's birth."""
    time = build.proof("timestamp", signed_at=int(BORN.timestamp() + signed), anchors=(anchor,))
    vouch = msgspec.structs.replace(build.vouch(by), proof=time)
    statement = f"{int(signed) & 0xF:x}"
    if clean:
        return build.attestation(vouch, holds=(CLEAN,), statement=statement)
    return build.attestation(vouch, fails={CLEAN: "predicate.criticals = 2"}, statement=statement)


def scanned(*scans: Attestation, root: RootFacts | None = None) -> ImageFacts:
    """Signed by key 1, with these scans; every question was asked."""
    return build.facts(
        attestations=scans or (scan(),),
        checked_predicates=(build.SCAN,),
        checked_conditions=(condition_name(build.SCAN, CLEAN),),
        checked_roots=((root or build.root()).hash,),
    )


class Instance:
    """One admitted pod and its grant, whose evidence is judged again and again, as a controller does."""

    def __init__(self, policy: Policy | None = None, *, found: ImageFacts | None = None) -> None:
        self.given: PolicySnapshot = build.snapshot(policy or asking())
        self.subject, self.spent = admitted(self.given, found=found or scanned())
        judgement = judge_instance(self.given, self.subject, self.spent, ACCOUNT_UID, at(1))
        assert judgement is not None
        self.grant: WorkloadGrant = recorded(judgement)
        self.track = first_sight(self.subject.pod)
        self.found: ImageFacts | None = None
        """What gates have found out since the controller started."""

    def restart(self) -> None:
        """The controller ends, and another knows what the grant says."""
        self.found = None

    def apply(self, policy: Policy) -> None:
        self.given = build.snapshot(policy)

    @property
    def state(self) -> tuple[str, str]:
        return self.grant.status.state or "", self.grant.status.reason

    def judge(self, seconds: float) -> EvidenceNow:
        """Judge it so many seconds after its birth, and take the grant where that leads."""
        now = at(seconds)
        qualified = requalify(self.given, self.subject, self.spent.receipt, now)
        assert qualified is not None
        asked = questions(self.given, self.subject, self.spent.receipt)
        known = {image: self.found for image in asked if self.found is not None}
        stands = evidence_now(
            self.given, self.subject, self.spent.receipt,
            admitted=qualified, grant=self.grant, asked=asked, found=known, now=now,
        )  # fmt: skip
        seen = observed(self.track, stands.qualification, evidence_withdrawn=stands.withdrawn)
        status = status_after(
            self.grant.status, next_status(self.grant, seen, now), self.track, now,
            evidence_good_until=stands.good_until,
        )  # fmt: skip
        self.grant = msgspec.structs.replace(self.grant, status=status)
        return stands
