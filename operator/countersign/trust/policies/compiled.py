"""What can be worked out of policies before any pod is seen, kept on the objects that it is worked out of.

A pod under judgement then costs comparisons only: globs are split, keys are named, tokens have their shapes, audiences
are looked up by name.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from countersign.api.audience import ProtectedAudience
from countersign.api.image_rule import AttestationRule, ImageRule
from countersign.api.names import EXEMPT_NAMESPACES, RESERVED_AUDIENCE_SUFFIX
from countersign.api.policy import ClusterTrustPolicySpec, TokenSpec
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.images.globs import Glob
from countersign.trust.orders.exceptions import ExceptionIndex
from countersign.trust.orders.standing import StandingIndex
from countersign.trust.pods.tokens import token_shape
from countersign.trust.policies.authorities import AuthorityIndex, CompiledAuthority
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.policies.profiles import settings_of

_KEY: Final = "compiled"
MAX_SEEN: Final = 256
"""Names of images for which a policy remembers its rules: those of one pod (`pods.size`), asked for at each step."""
MAX_EXPRESSIONS: Final = 256
"""Regular expressions for signers, of all policies of one pod. One may take some milliseconds to compile, in a process
that answers for the whole cluster. So many name over a hundred signers, each by issuer and subject."""
_NEWEST: Final = "9"
"""Sorts after every RFC 3339 time of this millennium: what has no creation time yet is the newest."""


class CompiledCondition(NamedTuple):
    """A condition on an attestation."""

    name: str
    """That of the claim which answers it (`conditions.condition_name`)."""
    expression: str
    message: str


class CompiledAttestation:
    """An attestation that an image must have."""

    __slots__ = ("authorities", "conditions", "latest", "max_age", "name", "predicate_type", "signers")

    def __init__(self, rule: AttestationRule, known: Mapping[str, CompiledAuthority]) -> None:
        self.name: Final = rule.name
        self.predicate_type: Final = rule.predicate_type
        self.authorities: Final = tuple(known[name] for name in rule.authorities if name in known)
        self.signers: Final = AuthorityIndex(self.authorities)
        self.latest: Final = rule.select == "Latest"
        self.max_age: Final = rule.max_age_seconds
        self.conditions: Final = tuple(
            CompiledCondition(condition_name(rule.predicate_type, one.expression), one.expression, one.message)
            for one in rule.validations
        )


class Asks(NamedTuple):
    """What a rule wants found out about an image."""

    keys: dict[str, str]
    """PEM by fingerprint."""
    roots: tuple[str, ...]
    predicates: dict[str, tuple[str, ...]]
    """Expressions by predicate type."""

    @property
    def signatures(self) -> bool:
        """Whether it wants any signature looked for."""
        return bool(self.keys or self.roots or self.predicates)


class CompiledRule:
    """An image rule, ready to be asked about many images."""

    __slots__ = (
        "_asks",
        "_asks_if_listed",
        "attestations",
        "attestors",
        "authorities",
        "digests",
        "globs",
        "name",
        "repository",
        "signature_on",
        "signers",
    )

    def __init__(self, rule: ImageRule) -> None:
        self.name: Final = rule.name
        self.globs: Final = tuple(Glob(text) for text in rule.globs)
        self.digests: Final = frozenset(rule.digests)
        self.authorities: Final = tuple(CompiledAuthority(authority) for authority in rule.authorities)
        self.signers: Final = AuthorityIndex(self.authorities)
        self.attestors: Final = tuple(CompiledAuthority(authority) for authority in rule.attestors)
        known = {authority.name: authority for authority in (*self.attestors, *self.authorities)}
        self.attestations: Final = tuple(CompiledAttestation(one, known) for one in rule.attestations)
        self.signature_on: Final = rule.signature_on
        self.repository: Final = rule.signature_repository
        self._asks: Final = _asks(self.authorities, self.attestations)
        self._asks_if_listed: Final = _asks((), self.attestations)

    @property
    def may_turn(self) -> bool:
        """Whether evidence that does today may not do tomorrow: an attestation grows too old, or a later one counts.

        Nothing else does that. More evidence never refuses what less let in, and what was signed once stays signed.
        """
        return any(one.latest or one.max_age is not None for one in self.attestations)

    def matches(self, name: str) -> bool:
        """Whether the rule speaks about images of that `registry/repository`."""
        for glob in self.globs:  # noqa: SIM110 - twice as fast as any(), and asked for every image of every pod
            if glob.matches(name):
                return True
        return False

    @property
    def extensions(self) -> tuple[str, ...]:
        """Names of the certificates' extensions that its signers are asked about."""
        signers = (*self.authorities, *self.attestors)
        return tuple([name for signer in signers for identity in signer.identities for name in identity.extensions])

    def asks(self, digest: str | None) -> Asks:
        """What it wants to know of an image of that digest: of a listed one no signature, but its attestations."""
        return self._asks_if_listed if digest is not None and digest in self.digests else self._asks


def _asks(authorities: Iterable[CompiledAuthority], attestations: tuple[CompiledAttestation, ...]) -> Asks:
    signers = (*authorities, *(one for attestation in attestations for one in attestation.authorities))
    predicates: dict[str, dict[str, None]] = {}
    for attestation in attestations:
        known = predicates.setdefault(attestation.predicate_type, {})
        known.update(dict.fromkeys(condition.expression for condition in attestation.conditions))
    return Asks(
        keys={name: pem for signer in signers for name, pem in signer.keys.items()},
        roots=tuple(dict.fromkeys(signer.root for signer in signers if signer.root)),
        predicates={name: tuple(expressions) for name, expressions in predicates.items()},
    )


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
        "expressions",
        "globs",
        "invalid",
        "policy",
        "ref",
        "rules",
        "seen",
        "settings",
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
        self.expressions: Final = sum(
            identity.expressions
            for rule in self.rules
            for signer in (*rule.authorities, *rule.attestors)
            for identity in signer.identities
        )
        """Of them, too."""
        self.invalid: str | None = None
        """What `composition` has found wrong with it by itself; None: nobody has asked yet."""
        self.seen: dict[str, tuple[CompiledRule, ...]] = {}
        self.tokens: Final = tuple(CompiledToken(token) for token in policy.spec.tokens)
        self.settings: Final = settings_of(policy.spec)
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

    @property
    def may_turn(self) -> bool:
        """Whether it has a rule of which that is true."""
        return any(rule.may_turn for rule in self.rules)

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

    __slots__ = ("audiences", "by_name", "cluster", "declared", "exceptions", "exempt", "own", "roots", "standing")

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
        self.roots: Final = snapshot.roots
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
