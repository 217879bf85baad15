"""Whether two policies can ever govern the same pod. Answers no only where that is certain."""

from collections.abc import Iterable
from typing import Final

from countersign.api.meta import LabelSelector, SelectorRequirement
from countersign.api.policy import ClusterTrustPolicySpec
from countersign.trust.policies.compiled import CompiledPolicy

NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""The API server keeps this label of every namespace equal to its name (KEP-2161)."""


def may_overlap(one: CompiledPolicy, other: CompiledPolicy) -> bool:
    """Whether some pod could be governed by both, by their selectors or by the accounts that they bind."""
    if one.accounts & other.accounts:
        return True
    # A pod under a bound account may bear any label, so only the namespace of the account can keep the other away.
    if any(_may_select_namespace(other, namespace) for namespace, _ in one.accounts):
        return True
    if any(_may_select_namespace(one, namespace) for namespace, _ in other.accounts):
        return True
    pods = (one.spec.match.pod_selector, other.spec.match.pod_selector)
    return _satisfiable(*pods) and _satisfiable(_namespaces(one), _namespaces(other))


def _may_select_namespace(policy: CompiledPolicy, namespace: str) -> bool:
    return _satisfiable(_namespaces(policy), LabelSelector(match_labels={NAMESPACE_NAME_LABEL: namespace}))


def _namespaces(policy: CompiledPolicy) -> LabelSelector:
    spec = policy.spec
    if isinstance(spec, ClusterTrustPolicySpec):
        return spec.match.namespace_selector
    return LabelSelector(match_labels={NAMESPACE_NAME_LABEL: policy.ref.namespace})


def _satisfiable(*selectors: LabelSelector) -> bool:
    """Whether one set of labels can match all of them: clauses about different keys never contradict each other."""
    by_key: dict[str, list[SelectorRequirement]] = {}
    for selector in selectors:
        for key, value in selector.match_labels.items():
            by_key.setdefault(key, []).append(SelectorRequirement(key=key, operator="In", values=(value,)))
        for clause in selector.match_expressions:
            by_key.setdefault(clause.key, []).append(clause)
    return all(_key_satisfiable(clauses) for clauses in by_key.values())


def _key_satisfiable(clauses: Iterable[SelectorRequirement]) -> bool:
    allowed: set[str] | None = None
    excluded: set[str] = set()
    present = absent = False
    for clause in clauses:
        match clause.operator:
            case "In":
                present = True
                allowed = set(clause.values) if allowed is None else allowed & set(clause.values)
            case "NotIn":
                excluded |= set(clause.values)
            case "Exists":
                present = True
            case "DoesNotExist":
                absent = True
    if present and absent:
        return False
    return allowed is None or bool(allowed - excluded)
