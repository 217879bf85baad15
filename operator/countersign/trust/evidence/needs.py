"""What must be found out about a pod's images before it can be judged, and nothing more.

A registry is asked only about images that a rule of a governing policy matches: for signatures if the rule has
authorities or attestations, for a digest if the pod gives a tag, for what its platforms run if the pod receives a
token.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from countersign.api.pod import Pod
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import BESIDE, ImageFacts
from countersign.trust.images.extraction import extract, read_reference
from countersign.trust.images.reference import ImageReference
from countersign.trust.pods.recipients import all_recipients
from countersign.trust.pods.size import too_large
from countersign.trust.policies.compiled import CompiledPolicy, compiled_policy
from countersign.trust.policies.policy import Policy, RootFacts


class PredicateNeed(msgspec.Struct, frozen=True):
    """Attestations of one predicate type, and what is to be found out about each."""

    predicate_type: str
    expressions: tuple[str, ...] = ()
    """CEL conditions, as policies write them. Their answers are claims (`conditions.condition_name`)."""


class EvidenceNeed(msgspec.Struct, frozen=True, kw_only=True):
    """One question about one image."""

    image: str
    """As it stands in the pod: the key of the answer in `evidence`."""
    keys: tuple[str, ...] = ()
    """PEM public keys to ask about."""
    fingerprints: tuple[str, ...] = ()
    """Names of those keys, in the same order."""
    want_config: bool = False
    """The entrypoints of its platforms are needed."""
    resolve: bool = False
    """It stands there by tag only."""
    roots: tuple[str, ...] = ()
    """Names of the evidence roots that certificates, logs and timestamps are to be held against."""
    root_hashes: tuple[str, ...] = ()
    """Hashes of their content as the snapshot knows it, in the same order."""
    predicates: tuple[PredicateNeed, ...] = ()
    """Attestations to look for: one for each predicate type."""
    platforms: bool = False
    """Signatures and attestations on the manifests of the platforms of an index are needed, too."""
    repositories: tuple[str, ...] = BESIDE
    """Where signatures are to be looked for, as `registry/repository`; empty: beside the image."""
    stale_seconds: int = 0
    """How old facts may be that cannot be asked for again: the largest that a policy allows."""


def evidence_needs(policies: Iterable[Policy], pod: Pod, roots: Mapping[str, RootFacts]) -> tuple[EvidenceNeed, ...]:
    """The questions for the policies that govern the pod (`scope.governing`): at most one an image.

    `roots` are those of the snapshot. One that is missing there, or cannot be used, is not asked about.
    """
    return needs_compiled([compiled_policy(policy) for policy in policies], pod, roots)


def needs_compiled(
    policies: Iterable[CompiledPolicy], pod: Pod, roots: Mapping[str, RootFacts]
) -> tuple[EvidenceNeed, ...]:
    """As `evidence_needs`."""
    policies = tuple(policies)
    if too_large(policies, pod):
        return ()
    references = {use.image: read_reference(use.image) for use in extract(pod)}
    # What may run is asked by any policy that governs a recipient, one without tokens of its own included: an audience
    # may require it. And what a node reports of any image of such a pod must be recognised.
    with_config = any(policy.tokens and all_recipients(policy, pod) for policy in policies)
    return tuple(
        [
            need
            for image, reference in references.items()
            if isinstance(reference, ImageReference)
            and (need := _need(policies, image, reference, roots, with_config)) is not None
        ]
    )


def covers(facts: ImageFacts, need: EvidenceNeed) -> bool:
    """Whether facts that are at hand (a cache's, a receipt's) already answer the question."""
    reference = read_reference(need.image)
    return (
        isinstance(reference, ImageReference)
        and reference.name == facts.image
        and (reference.digest == facts.digest if reference.digest else need.resolve)
        and facts.stale_seconds <= need.stale_seconds
        and (bool(facts.configs) or not need.want_config)
        and (facts.platforms_checked or not need.platforms)
        and (_signatures_answered(facts, need) or not (need.keys or need.roots or need.predicates))
    )


def _signatures_answered(facts: ImageFacts, need: EvidenceNeed) -> bool:
    return (
        not facts.left_out
        and set(need.fingerprints) <= set(facts.checked_keys)
        and set(need.root_hashes) <= set(facts.checked_roots)
        and set(need.repositories) <= set(facts.searched)
        and all(_answered(one, facts) for one in need.predicates)
    )


def _answered(need: PredicateNeed, facts: ImageFacts) -> bool:
    return need.predicate_type in facts.checked_predicates and all(
        _condition_name(need.predicate_type, expression) in facts.checked_conditions for expression in need.expressions
    )


_condition_name = lru_cache(4096)(condition_name)


def _need(
    policies: tuple[CompiledPolicy, ...],
    image: str,
    reference: ImageReference,
    roots: Mapping[str, RootFacts],
    with_config: bool,
) -> EvidenceNeed | None:
    name, digest = reference.name, reference.digest
    matched = [(policy, rule) for policy in policies for rule in policy.matching(name)]
    if not matched:
        return None
    keys: dict[str, str] = {}
    wanted_roots: dict[str, str] = {}
    predicates: dict[str, dict[str, None]] = {}
    repositories: dict[str, None] = {}
    platforms = False
    for _, rule in matched:
        asks = rule.asks(digest)
        if not asks.signatures:
            continue
        keys.update(asks.keys)
        for root in asks.roots:
            found = roots.get(root)
            if found is not None and not found.problem:
                wanted_roots[root] = found.hash
        for predicate_type, expressions in asks.predicates.items():
            predicates.setdefault(predicate_type, {}).update(dict.fromkeys(expressions))
        repositories[rule.repository] = None
        platforms = platforms or rule.signature_on != "Digest"
    if not (digest is None or repositories or with_config):
        return None
    return EvidenceNeed(
        image=image,
        keys=tuple(keys.values()),
        fingerprints=tuple(keys),
        want_config=with_config or platforms,
        resolve=digest is None,
        roots=tuple(wanted_roots),
        root_hashes=tuple(wanted_roots.values()),
        predicates=tuple([PredicateNeed(one, tuple(expressions)) for one, expressions in predicates.items()]),
        platforms=platforms,
        repositories=tuple(repositories) or BESIDE,
        stale_seconds=max([policy.spec.stale_evidence_seconds for policy, _ in matched]),
    )
