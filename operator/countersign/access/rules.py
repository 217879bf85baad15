"""Step 17 of the decision: the audience's own rules (`spec.allow`), weighed over the other sixteen's yes.

What they are about (`trust.allow.variables`) is read here, each value only when a rule comes to it. What is not known
is None, never an empty text: a rule that denies (`!request.path.startsWith('/admin')`) must not hold for want of
knowledge.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from countersign.access.claims import TokenClaims
from countersign.access.decision import Asker, Decision
from countersign.access.pod_view import PodView
from countersign.access.use import Use, one_reading
from countersign.api import clock
from countersign.api.audience import ProtectedAudience
from countersign.api.grant import GrantEvidence, GrantImage, GrantPolicy, WorkloadGrant
from countersign.trust.allow.rules import Compiled, Outcome, Read, admitting, outcomes
from countersign.trust.allow.variables import MAX_EVIDENCE

MAX_TOLD_LENGTH: Final = 900
"""Of a refusal that is explained. A grant's message and a condition's have 1,024."""
_TOO_LATE: Final = "the rules before it have used up the steps of one use"

_Record = dict[str, Any]


class Facts:
    """What is known of one use of one token: `read` gives the value at a path, None where it is not known."""

    __slots__ = ("_known", "asker", "claims", "grant", "now", "pod", "use")

    def __init__(
        self, *, claims: TokenClaims, pod: PodView, grant: WorkloadGrant, asker: Asker, use: Use, now: datetime
    ) -> None:
        """Of a token that is active but for the rules."""
        self.claims = claims
        self.pod = pod
        self.grant = grant
        self.asker = asker
        self.use = use
        self.now = now
        self._known: dict[str, Any] = {}

    def read(self, path: str) -> Any:
        """The value at a path of `trust.allow.variables.paths`."""
        if path in self._known:
            return self._known[path]
        value = self._known[path] = READ[path](self)
        return value


def weigh(decision: Decision, audience: ProtectedAudience, rules: Compiled, read: Read, *, explain: bool) -> Decision:
    """The decision with the rules of its audience. An inactive one stays as it is.

    `explain`: say what each rule came upon, which costs a few times the work of weighing.
    """
    if not decision.active or not audience.spec.allow:
        return decision
    if rules.problem:
        return Decision(
            False, "AudienceNotAccepted", f"ProtectedAudience {audience.metadata.name} is not accepted: {rules.problem}"
        )
    admitted_by = admitting(rules, read)
    if admitted_by is not None:
        return msgspec.structs.replace(decision, message=f"every condition holds, by allow rule {admitted_by.name}")
    name = audience.metadata.name
    if not explain:
        return Decision(False, "NotAllowed", f"no allow rule of ProtectedAudience {name} admits this use")
    return Decision(False, "NotAllowed", told(name, outcomes(rules, read)))


def told(audience: str, found: tuple[Outcome, ...]) -> str:
    """A refusal, with what each rule came upon."""
    message = f"no allow rule of ProtectedAudience {audience} admits this use"
    for number, one in enumerate(found):
        meant = f" ({one.rule.message})" if one.rule.message else ""
        longer = f"{message}{';' if number else ':'} {one.rule.name}{meant}: {one.found or _TOO_LATE}"
        if len(longer) > MAX_TOLD_LENGTH:
            return f"{message}; and {len(found) - number} more"
        message = longer
    return message


def _since(then: datetime, now: datetime) -> int:
    return max(0, int((now - then).total_seconds()))


def _grant_age(facts: Facts) -> int | None:
    created = facts.grant.metadata.creation_timestamp
    return _since(clock.parse(created), facts.now) if created else None


def _profile(facts: Facts) -> str | None:
    """Of the policy that gives the token."""
    spec = facts.grant.spec
    giver = next((one.policy_uid for one in spec.tokens if one.audience in facts.claims.audiences), "")
    return next((one.profile for one in spec.policies if one.uid == giver and giver), "") or None


def _policies(facts: Facts) -> tuple[_Record, ...]:
    return tuple(
        {"kind": one.kind, "namespace": one.namespace, "name": one.name, "profile": one.profile}
        for one in facts.grant.spec.policies
    )


def _evidence(facts: Facts) -> tuple[_Record, ...] | None:
    spec = facts.grant.spec
    if sum(len(image.evidence) for image in spec.images) > MAX_EVIDENCE:
        return None
    policies = {policy.uid: policy for policy in spec.policies}
    return tuple(_vouched(image, one, policies.get(one.policy_uid)) for image in spec.images for one in image.evidence)


def _vouched(image: GrantImage, one: GrantEvidence, policy: GrantPolicy | None) -> _Record:
    return {
        "container": image.container,
        "image": image.image,
        "digest": image.digest,
        "policyKind": policy.kind if policy else None,
        "policyNamespace": policy.namespace if policy else None,
        "policyName": policy.name if policy else None,
        "rule": one.rule,
        "authority": one.authority,
        "keyFingerprint": one.key_fingerprint,
        "issuer": one.issuer,
        "subject": one.subject,
        "attestation": one.attestation,
        "predicateType": one.predicate_type,
        "digestListed": one.digest_listed,
    }


def _exceptions(facts: Facts) -> tuple[_Record, ...]:
    return tuple(
        {"name": one.name, "tokens": one.tokens, "checks": one.checks} for one in facts.grant.status.exceptions
    )


def _controller(member: str) -> Callable[[Facts], str | None]:
    def read(facts: Facts) -> str | None:
        controller = facts.grant.spec.controller
        return None if controller is None else getattr(controller, member)

    return read


READ: Final[Mapping[str, Callable[[Facts], Any]]] = {
    "token.audience": lambda facts: facts.claims.audiences[0],
    "token.subject": lambda facts: facts.claims.subject,
    "token.jti": lambda facts: facts.claims.jti or None,
    "token.issuedAt": lambda facts: clock.from_seconds(facts.claims.issued_at),
    "token.expiresAt": lambda facts: clock.from_seconds(facts.claims.expires_at),
    "token.ageSeconds": lambda facts: _since(clock.from_seconds(facts.claims.issued_at), facts.now),
    "token.lifetimeSeconds": lambda facts: facts.claims.lifetime_seconds,
    "pod.namespace": lambda facts: facts.pod.namespace,
    "pod.name": lambda facts: facts.pod.name,
    "pod.uid": lambda facts: facts.pod.uid,
    "pod.node": lambda facts: facts.pod.node,
    "pod.serviceAccount": lambda facts: facts.pod.service_account,
    "pod.phase": lambda facts: facts.pod.phase,
    "pod.ageSeconds": lambda facts: _since(facts.pod.created_at, facts.now),
    "grant.owner": lambda facts: facts.grant.spec.owner or None,
    "grant.requester": lambda facts: facts.grant.spec.requester or None,
    "grant.controller.apiGroup": _controller("api_group"),
    "grant.controller.kind": _controller("kind"),
    "grant.controller.name": _controller("name"),
    "grant.profile": _profile,
    "grant.ageSeconds": _grant_age,
    "grant.policies": _policies,
    "grant.evidence": _evidence,
    "grant.exceptions": _exceptions,
    "request.relyingParty.namespace": lambda facts: facts.asker.namespace,
    "request.relyingParty.name": lambda facts: facts.asker.name,
    "request.time": lambda facts: facts.now,
    "request.sourceAddress": lambda facts: facts.use.source_address or None,
    "request.method": lambda facts: facts.use.method or None,
    "request.path": lambda facts: one_reading(facts.use.path) or None,
    "request.scopes": lambda facts: facts.use.scopes or None,
}
"""How each path of `trust.allow.variables.paths` is read."""
