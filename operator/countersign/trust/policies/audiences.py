"""Whether a policy may hand out an audience: its owner decides, with the ProtectedAudience."""

from countersign.api.audience import AllowedNamespaces, ProtectedAudience
from countersign.api.policy import TokenSpec
from countersign.trust.policies.compiled import CompiledPolicy, CompiledSnapshot
from countersign.trust.policies.policy import NamespaceFacts
from countersign.trust.verdicts.problem import Problem


def unavailable(
    index: CompiledSnapshot, policy: CompiledPolicy, token: TokenSpec, namespace: NamespaceFacts | None
) -> Problem | None:
    """Why the policy may not hand the token out, or None. A report: it costs the token, never the pod.

    `namespace` is that of the pod; None where a ClusterTrustPolicy is looked at without a pod.
    """
    audience = index.audiences.get(token.audience)
    if audience is None:
        return _report(
            f"a ProtectedAudience that declares {token.audience}",
            "none in force",
            "have the audience's owner create the ProtectedAudience",
        )
    if not policy.is_cluster and not _allows(audience.spec.issuance.allowed_namespaces, namespace):
        return _report(
            f"an audience that TrustPolicies of {policy.ref.namespace} may hand out",
            f"ProtectedAudience {audience.metadata.name} does not allow that namespace",
            "ask the audience's owner to list the namespace in issuance.allowedNamespaces",
        )
    longest = audience.spec.issuance.max_expiration_seconds
    if token.expiration_seconds > longest:
        return _report(
            f"expirationSeconds of at most {longest} for {token.audience}",
            f"{token.expiration_seconds}",
            "shorten expirationSeconds in the policy",
        )
    return None


def missing_required(audience: ProtectedAudience, governing: frozenset[str]) -> Problem | None:
    """Which of the audience's required policies does not govern the pod. `governing`: names of ClusterTrustPolicies."""
    missing = [name for name in audience.spec.issuance.required_policies if name not in governing]
    if not missing:
        return None
    return Problem(
        "RequiredPolicyMissing",
        f"a pod governed by ClusterTrustPolicy {', '.join(missing[:3])} before it receives {audience.spec.audience}",
        "a pod that it does not govern",
        "have the cluster's admins extend the policy to this pod, or create it",
        denies=False,
        blocks_identity=False,
    )


def _allows(allowed: AllowedNamespaces, namespace: NamespaceFacts | None) -> bool:
    if namespace is None:
        return False
    match allowed.from_:
        case "All":
            return True
        case "Names":
            return namespace.name in allowed.names
        case "Selector":
            return allowed.selector is not None and allowed.selector.matches(namespace.labels)
        case "None":
            return False


def _report(expected: str, found: str, remedy: str) -> Problem:
    return Problem("AudienceUnavailable", expected, found, remedy, denies=False, blocks_identity=False)
