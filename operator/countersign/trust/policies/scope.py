"""Which policies govern a pod.

A ClusterTrustPolicy governs the pods of its selectors, a TrustPolicy those of its own namespace. A service account that
a policy binds is governed whatever the selectors say: nobody escapes by leaving a label out.
"""

from countersign.api.pod import is_mirror
from countersign.api.policy import ClusterTrustPolicySpec
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.compiled import CompiledPolicy, CompiledSnapshot, compiled
from countersign.trust.policies.policy import Policy, PolicySnapshot

DEFAULT_ACCOUNT = "default"
"""The account of a pod that names none (core/v1 PodSpec)."""


def governing(snapshot: PolicySnapshot, subject: Subject) -> tuple[Policy, ...]:
    """The policies that govern the pod: the cluster's first, then the older first. Empty: nothing of ours applies."""
    return tuple(policy.policy for policy in governing_compiled(compiled(snapshot), subject))


def governing_compiled(index: CompiledSnapshot, subject: Subject) -> tuple[CompiledPolicy, ...]:
    """As `governing`, for callers inside this package."""
    if is_exempt(index, subject):
        return ()
    own = index.own.get(subject.namespace.name, ())
    return tuple(
        [policy for policy in index.cluster if _governs(policy, subject)]
        + [policy for policy in own if _governs(policy, subject)]
    )


def is_exempt(index: CompiledSnapshot, subject: Subject) -> bool:
    """Whether no policy may govern the pod: the cluster's own namespaces, ours, and shadows of static pods."""
    return subject.namespace.name in index.exempt or is_mirror(subject.pod)


def account_of(subject: Subject) -> tuple[str, str]:
    """Namespace and name of the pod's service account."""
    return subject.namespace.name, subject.pod.spec.service_account_name or DEFAULT_ACCOUNT


def _governs(policy: CompiledPolicy, subject: Subject) -> bool:
    if policy.accounts and account_of(subject) in policy.accounts:
        return True
    match = policy.spec.match
    if not match.pod_selector.matches(subject.pod.metadata.labels):
        return False
    if not isinstance(policy.spec, ClusterTrustPolicySpec):
        return policy.ref.namespace == subject.namespace.name
    return policy.spec.match.namespace_selector.matches(subject.namespace.labels)
