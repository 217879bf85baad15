"""What can be worked out of policies before any pod is seen, kept on the objects that it is worked out of.

A pod under judgement then costs comparisons only: globs are split, keys are named, tokens have their shapes, audiences
are looked up by name.
"""

from typing import Final

from countersign.api.audience import ProtectedAudience
from countersign.api.image_rule import ImageRule
from countersign.api.names import EXEMPT_NAMESPACES, RESERVED_AUDIENCE_SUFFIX
from countersign.api.policy import ClusterTrustPolicySpec, TokenSpec
from countersign.trust.evidence.fingerprints import pem_fingerprint
from countersign.trust.images.globs import Glob
from countersign.trust.orders.exceptions import ExceptionIndex
from countersign.trust.orders.standing import StandingIndex
from countersign.trust.pods.tokens import token_shape
from countersign.trust.policies.policy import Policy, PolicySnapshot

_KEY: Final = "compiled"
MAX_SEEN: Final = 256
"""Names of images for which a policy remembers its rules: those of one pod (`pods.size`), asked for at each step."""
_NEWEST: Final = "9"
"""Sorts after every RFC 3339 time of this millennium: what has no creation time yet is the newest."""


class CompiledAuthority:
    """An authority and the names of its keys."""

    __slots__ = ("fingerprints", "keys", "name", "require_reference")

    def __init__(self, name: str, pems: tuple[str, ...], require_reference: bool) -> None:
        self.name: Final = name
        self.keys: Final = {fingerprint: pem for pem in pems if (fingerprint := pem_fingerprint(pem))}
        """PEM by fingerprint. What cannot be read vouches for nothing and is not asked for."""
        self.fingerprints: Final = frozenset(self.keys)
        self.require_reference: Final = require_reference


class CompiledRule:
    """An image rule, ready to be asked about many images."""

    __slots__ = ("authorities", "digests", "globs", "keys", "name")

    def __init__(self, rule: ImageRule) -> None:
        self.name: Final = rule.name
        self.globs: Final = tuple(Glob(text) for text in rule.globs)
        self.digests: Final = frozenset(rule.digests)
        self.authorities: Final = tuple(
            CompiledAuthority(authority.name, authority.key.pem, authority.key.require_reference)
            for authority in rule.authorities
            if authority.key is not None
        )
        self.keys: Final = {name: pem for authority in self.authorities for name, pem in authority.keys.items()}

    def matches(self, name: str) -> bool:
        """Whether the rule speaks about images of that `registry/repository`."""
        for glob in self.globs:  # noqa: SIM110 - twice as fast as any(), and asked for every image of every pod
            if glob.matches(name):
                return True
        return False


class CompiledToken:
    """A token and its shape in a pod."""

    __slots__ = ("shape", "spec")

    def __init__(self, spec: TokenSpec) -> None:
        self.spec: Final = spec
        self.shape: Final = token_shape(spec)


class CompiledPolicy:
    """A policy, ready to be asked about many pods."""

    __slots__ = (
        "accounts",
        "denied_env",
        "denied_env_prefixes",
        "globs",
        "policy",
        "ref",
        "rules",
        "seen",
        "spec",
        "tokens",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy: Final = policy
        self.ref: Final = policy.ref
        self.spec: Final = policy.spec
        self.rules: Final = tuple(CompiledRule(rule) for rule in policy.spec.images)
        self.globs: Final = sum(len(rule.globs) for rule in self.rules)
        """How many there are in all its rules."""
        self.seen: dict[str, tuple[CompiledRule, ...]] = {}
        self.tokens: Final = tuple(CompiledToken(token) for token in policy.spec.tokens)
        # A TrustPolicy speaks of its own namespace only, whatever it writes there.
        own = "" if policy.is_cluster else policy.ref.namespace
        self.accounts: Final = frozenset(
            (account.namespace or own, account.name)
            for account in policy.spec.binding.service_accounts
            if policy.is_cluster or account.namespace in ("", own)
        )
        denied = policy.spec.runtime.denied_env
        self.denied_env: Final = frozenset(name for name in denied if not name.endswith("*"))
        self.denied_env_prefixes: Final = tuple(name[:-1] for name in denied if name.endswith("*"))

    @property
    def is_cluster(self) -> bool:
        """Whether it is the cluster's, not a namespace's own."""
        return isinstance(self.spec, ClusterTrustPolicySpec)

    def covers(self, name: str | None) -> bool:
        """Whether some rule speaks about images of that `registry/repository`; None is the name of none."""
        return name is not None and bool(self.matching(name))

    def matching(self, name: str) -> tuple[CompiledRule, ...]:
        """The rules that speak about images of that `registry/repository`."""
        found = self.seen.get(name)
        if found is None:
            if len(self.seen) >= MAX_SEEN:
                self.seen.clear()
            found = self.seen[name] = tuple([rule for rule in self.rules if rule.matches(name)])
        return found


class CompiledSnapshot:
    """A snapshot with its policies in the order of precedence: the cluster's before namespaces', then the older."""

    __slots__ = ("audiences", "by_name", "cluster", "declared", "exceptions", "exempt", "own", "standing")

    def __init__(self, snapshot: PolicySnapshot) -> None:
        ordered = sorted(snapshot.policies, key=precedence)
        self.cluster: Final = tuple(compiled_policy(policy) for policy in ordered if policy.is_cluster)
        own: dict[str, list[CompiledPolicy]] = {}
        for policy in ordered:
            if not policy.is_cluster and policy.ref.namespace:
                own.setdefault(policy.ref.namespace, []).append(compiled_policy(policy))
        self.own: Final = {namespace: tuple(policies) for namespace, policies in own.items()}
        self.by_name: Final = {policy.ref.name: policy for policy in reversed(self.cluster)}
        self.declared: Final = frozenset(audience.spec.audience for audience in snapshot.audiences)
        """Every declared audience, whether or not its declaration is accepted: all are protected."""
        self.audiences: Final = accepted_audiences(snapshot)
        self.standing: Final = StandingIndex(snapshot.revocations, snapshot.system_namespace)
        self.exceptions: Final = ExceptionIndex(snapshot.exceptions)
        self.exempt: Final = frozenset((*EXEMPT_NAMESPACES, snapshot.system_namespace))


def precedence(policy: Policy) -> tuple[bool, str, str, str, str]:
    """Sort key: who wins where policies clash comes first."""
    return (not policy.is_cluster, policy.created or _NEWEST, policy.ref.namespace, policy.ref.name, policy.ref.uid)


def accepted_audiences(snapshot: PolicySnapshot) -> dict[str, ProtectedAudience]:
    """The declaration that counts for each audience: the oldest one, and none for reserved names."""
    accepted: dict[str, ProtectedAudience] = {}
    for audience in sorted(snapshot.audiences, key=audience_precedence):
        if not audience.spec.audience.endswith(RESERVED_AUDIENCE_SUFFIX):
            accepted.setdefault(audience.spec.audience, audience)
    return accepted


def audience_precedence(audience: ProtectedAudience) -> tuple[str, str, str]:
    """Sort key: of two declarations of one audience the older counts."""
    return (audience.metadata.creation_timestamp or _NEWEST, audience.metadata.name, audience.metadata.uid)


def compiled_policy(policy: Policy) -> CompiledPolicy:
    """The policy's compiled form, made at the first call."""
    kept = policy.__dict__.get(_KEY)
    if kept is None:
        kept = policy.__dict__[_KEY] = CompiledPolicy(policy)
    compiled: CompiledPolicy = kept
    return compiled


def compiled(snapshot: PolicySnapshot) -> CompiledSnapshot:
    """The snapshot's index, made at the first call (about 20 us for each policy that is new)."""
    kept = snapshot.__dict__.get(_KEY)
    if kept is None:
        kept = snapshot.__dict__[_KEY] = CompiledSnapshot(snapshot)
    index: CompiledSnapshot = kept
    return index
