"""How policies compose: who wins a clash, and what the controller reports about policies.

A clash (two policies that would write the same token name, variable or audience into one pod) costs the loser that
token in pods that both govern, and nothing else: a policy's protection cannot be switched off by making a clash.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from countersign.api.audience import ProtectedAudience
from countersign.api.names import RESERVED_AUDIENCE_SUFFIX
from countersign.api.policy import TokenSpec
from countersign.trust.allow import rules
from countersign.trust.evidence import conditions
from countersign.trust.policies import audiences
from countersign.trust.policies.compiled import (
    MAX_EXPRESSIONS,
    CompiledPolicy,
    CompiledSnapshot,
    audience_precedence,
    compiled,
)
from countersign.trust.policies.overlap import may_overlap
from countersign.trust.policies.policy import DEFAULT_ROOT, NamespaceFacts, PolicyRef, PolicySnapshot

MAX_RIVALS: Final = 64
"""Earlier claimants that a policy is held against for its condition, so that a namespace of a thousand policies does
not keep the controller busy for seconds. In a pod each claim counts, whatever the condition says (`Claims`)."""


ResolvedReason = Literal[
    "ResolvedRefs", "AudienceUnavailable", "RequiredPolicyMissing", "EvidenceRootMissing", "EvidenceRootUnusable"
]


class PolicyJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of a policy without looking at any pod: its conditions Accepted and ResolvedRefs."""

    ref: PolicyRef
    accepted: bool
    accepted_reason: Literal["Accepted", "Conflicted", "Invalid"]
    accepted_message: str
    resolved_refs: bool
    resolved_reason: ResolvedReason
    resolved_message: str


class AudienceJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of a ProtectedAudience: its condition Accepted."""

    name: str
    uid: str
    generation: int
    audience: str
    accepted: bool
    accepted_reason: Literal["Accepted", "Conflicted", "Reserved", "Invalid"]
    accepted_message: str


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of everything in a snapshot, in the snapshot's order."""

    policies: tuple[PolicyJudgement, ...]
    audiences: tuple[AudienceJudgement, ...]


class Claims:
    """Token names, audiences and variables that earlier policies have taken."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], PolicyRef] = {}

    def take(self, ref: PolicyRef, token: TokenSpec) -> tuple[str, PolicyRef] | None:
        """Take what the token needs. Where some of it is taken already: what, and by whom; then nothing is taken."""
        wanted = claims_of(token)
        for claim in wanted:
            holder = self._taken.get(claim)
            if holder is not None:
                return f"{claim[0]} {claim[1]}", holder
        for claim in wanted:
            self._taken[claim] = ref
        return None


def claims_of(token: TokenSpec) -> tuple[tuple[str, str], ...]:
    """What only one token of a pod can have."""
    claims = (("token name", token.name), ("audience", token.audience))
    return (*claims, ("variable", token.env_var)) if token.env_var else claims


def accept(snapshot: PolicySnapshot, namespaces: Mapping[str, NamespaceFacts] | None = None) -> Acceptance:
    """Judge every policy and audience on its own and against the others.

    `namespaces` are those whose TrustPolicies are in the snapshot: their labels answer `allowedNamespaces` of kind
    Selector. A namespace that is missing counts as one without labels.
    """
    index = compiled(snapshot)
    conflicts = _conflicts(index)
    known = namespaces or {}
    by_ref = {policy.ref: policy for policy in (*index.cluster, *(p for own in index.own.values() for p in own))}
    return Acceptance(
        policies=tuple(
            _judge_policy(index, by_ref[policy.ref], conflicts.get(policy.ref, ""), known)
            for policy in snapshot.policies
            if policy.ref in by_ref
        ),
        audiences=tuple(_judge_audience(snapshot, audience) for audience in snapshot.audiences),
    )


def _conflicts(index: CompiledSnapshot) -> dict[PolicyRef, str]:
    """For each policy that loses a token to another one in some pod: what and to whom."""
    # Of namespaces, each policy meets those of its own only.
    holders: dict[tuple[str, tuple[str, str]], list[CompiledPolicy]] = {}
    lost: dict[PolicyRef, str] = {}
    ordered = (*index.cluster, *(policy for own in index.own.values() for policy in own))
    for policy in ordered:
        for token in policy.tokens:
            for claim in claims_of(token.spec):
                earlier = holders.setdefault((policy.ref.namespace, claim), [])
                rivals = earlier if policy.is_cluster else (*holders.get(("", claim), ()), *earlier)
                winner = None
                if policy.ref not in lost:
                    near = (other for other in rivals[:MAX_RIVALS] if other is not policy)
                    winner = next((other for other in near if may_overlap(other, policy)), None)
                if winner is not None:
                    lost[policy.ref] = (
                        f"token {token.spec.name} uses the {claim[0]} {claim[1]} of {winner.ref}, which comes first: "
                        "pods that both govern do not receive it; choose another one, or selectors that do not overlap"
                    )
                if not earlier or earlier[-1] is not policy:
                    earlier.append(policy)
    return lost


def _judge_policy(
    index: CompiledSnapshot, policy: CompiledPolicy, conflict: str, namespaces: Mapping[str, NamespaceFacts]
) -> PolicyJudgement:
    if policy.invalid is None:
        policy.invalid = _invalid(policy)  # It may hold thousands of expressions, and others change all the time.
    invalid = policy.invalid
    reason: Literal["Accepted", "Conflicted", "Invalid"] = (
        "Invalid" if invalid else "Conflicted" if conflict else "Accepted"
    )
    resolved_reason, resolved_message = _references(index, policy, namespaces)
    return PolicyJudgement(
        ref=policy.ref,
        accepted=reason == "Accepted",
        accepted_reason=reason,
        accepted_message=invalid or conflict or "the policy is in force",
        resolved_refs=resolved_reason == "ResolvedRefs",
        resolved_reason=resolved_reason,
        resolved_message=resolved_message,
    )


def _invalid(policy: CompiledPolicy) -> str:
    """What in the policy can never have the effect that it seems to have. It still governs, strictly."""
    for rule in policy.spec.images:
        for glob in rule.globs:
            registry, slash, _ = glob.partition("/")
            if not slash or not (registry == "localhost" or set(registry) & set(".:*")):
                return (
                    f"rule {rule.name}: glob {glob} matches nothing: write the registry out, as docker.io/library/nginx"
                )
    signers = _invalid_signers(policy)
    if signers:
        return signers
    if policy.tokens and not policy.rules:
        return "tokens without image rules are never handed out: without evidence there is no identity"
    bound = policy.spec.binding.service_accounts
    if len(policy.accounts) < len({(account.namespace, account.name) for account in bound}):
        return "binding.serviceAccounts names accounts of other namespaces: a TrustPolicy binds its own only"
    if any(not namespace for namespace, _ in policy.accounts):
        return "binding.serviceAccounts of a ClusterTrustPolicy needs `namespace`"
    return ""


def _invalid_signers(policy: CompiledPolicy) -> str:
    """A key or an expression that cannot be read: it never counts for anybody, and never holds."""
    if policy.expressions > MAX_EXPRESSIONS:
        return (
            f"{policy.expressions} regular expressions for signers, over {MAX_EXPRESSIONS} for one pod: none of its "
            "pods is judged; name signers exactly, or by fewer expressions"
        )
    for rule in policy.rules:
        for kind, authorities in (("authority", rule.authorities), ("attestor", rule.attestors)):
            for authority in authorities:
                problem = authority.problem()
                if problem:
                    return f"rule {rule.name}, {kind} {authority.name}: {problem}"
        for attestation in rule.attestations:
            for condition in attestation.conditions:
                problem = conditions.problem(condition.expression)
                if problem:
                    return f"rule {rule.name}, attestation {attestation.name}: {problem}"
    return ""


def _references(
    index: CompiledSnapshot, policy: CompiledPolicy, namespaces: Mapping[str, NamespaceFacts]
) -> tuple[ResolvedReason, str]:
    for name in dict.fromkeys(name for rule in policy.rules for name in rule.asks(None).roots):
        root = index.roots.get(name)
        if root is None and name != DEFAULT_ROOT:
            return (
                "EvidenceRootMissing",
                f"there is no EvidenceRoot {name}: nobody whom it would vouch for counts; create it, or correct "
                "evidenceRootRef",
            )
        if root is not None and root.problem:
            return (
                "EvidenceRootUnusable",
                f"EvidenceRoot {name} cannot be used: {root.problem}; nobody whom it would vouch for counts until then",
            )
    namespace = policy.ref.namespace
    facts = namespaces.get(namespace, NamespaceFacts(namespace, {})) if namespace else None
    for token in policy.tokens:
        problem = audiences.unavailable(index, policy, token.spec, facts)
        if problem is not None:
            return (
                "AudienceUnavailable",
                f"token {token.spec.name}: expected {problem.expected}, found {problem.found}; {problem.remedy}",
            )
        required = index.audiences[token.spec.audience].spec.issuance.required_policies
        missing = [name for name in required if name not in index.by_name]
        if missing:
            return (
                "RequiredPolicyMissing",
                f"token {token.spec.name}: its audience requires ClusterTrustPolicy {missing[0]}, which does not exist",
            )
    return "ResolvedRefs", "every audience is declared and allowed, and every evidence root is there"


def _judge_audience(snapshot: PolicySnapshot, audience: ProtectedAudience) -> AudienceJudgement:
    text = audience.spec.audience
    rivals = [other for other in snapshot.audiences if other.spec.audience == text]
    winner = min(rivals, key=audience_precedence)
    reason: Literal["Accepted", "Conflicted", "Reserved", "Invalid"] = "Accepted"
    message = "the audience is protected"
    if text.endswith(RESERVED_AUDIENCE_SUFFIX):
        reason, message = "Reserved", f"audiences that end in {RESERVED_AUDIENCE_SUFFIX} are Countersign's own"
    elif audience_precedence(winner) != audience_precedence(audience):
        reason = "Conflicted"
        message = f"ProtectedAudience {winner.metadata.name} declares {text}, too, and is older: delete one of them"
    elif invalid := rules.problem_of(audience.spec.allow):
        reason, message = "Invalid", f"{invalid}; until then no token of this audience is active"
    return AudienceJudgement(
        name=audience.metadata.name,
        uid=audience.metadata.uid,
        generation=audience.metadata.generation,
        audience=text,
        accepted=reason == "Accepted",
        accepted_reason=reason,
        accepted_message=message,
    )
