"""What must be found out about a pod's images before it can be judged, and nothing more.

A registry is asked only about images that a rule of a governing policy matches: for signatures if the rule has
authorities, for a digest if the pod gives a tag, for the image's entrypoint if its container receives a token.
"""

from collections.abc import Iterable

import msgspec

from countersign.api.pod import Pod
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.images.extraction import extract, read_reference
from countersign.trust.images.reference import ImageReference
from countersign.trust.pods.recipients import all_recipients
from countersign.trust.pods.size import too_large
from countersign.trust.policies.compiled import CompiledPolicy, compiled_policy
from countersign.trust.policies.policy import Policy


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
    repositories: tuple[str, ...] = ("",)
    """Where signatures are to be looked for, as `registry/repository`; empty: beside the image."""
    stale_seconds: int = 0
    """How old facts may be that cannot be asked for again: the largest that a policy allows."""


def evidence_needs(policies: Iterable[Policy], pod: Pod) -> tuple[EvidenceNeed, ...]:
    """The questions for the policies that govern the pod (`scope.governing`): at most one an image."""
    return needs_compiled([compiled_policy(policy) for policy in policies], pod)


def needs_compiled(policies: Iterable[CompiledPolicy], pod: Pod) -> tuple[EvidenceNeed, ...]:
    """As `evidence_needs`."""
    policies = tuple(policies)
    if too_large(policies, pod):
        return ()
    references = {use.image: read_reference(use.image) for use in extract(pod)}
    # A policy without tokens may be one that an audience requires: its word about what may run then counts, too.
    with_config = {
        container.image
        for policy in policies
        if policy.tokens and any(one.spec.runtime.command != "Any" for one in policies)
        for container in all_recipients(policy, pod)
    }
    return tuple(
        need
        for image, reference in references.items()
        if isinstance(reference, ImageReference)
        and (need := _need(policies, image, reference, image in with_config)) is not None
    )


def covers(facts: ImageFacts, need: EvidenceNeed) -> bool:
    """Whether facts that are at hand (a cache's, a receipt's) already answer the question."""
    reference = read_reference(need.image)
    return (
        isinstance(reference, ImageReference)
        and reference.name == facts.image
        and (reference.digest == facts.digest if reference.digest else need.resolve)
        and (bool(facts.configs) or not need.want_config)
        and set(need.fingerprints) <= set(facts.checked_keys)
    )


def _need(
    policies: tuple[CompiledPolicy, ...], image: str, reference: ImageReference, want_config: bool
) -> EvidenceNeed | None:
    name, digest = reference.name, reference.digest
    matched = False
    keys: dict[str, str] = {}
    for policy in policies:
        for rule in policy.matching(name):
            matched = True
            if digest is None or digest not in rule.digests:
                keys.update(rule.keys)
    resolve = matched and digest is None
    if not (resolve or keys or (want_config and matched)):
        return None
    return EvidenceNeed(
        image=image,
        keys=tuple(keys.values()),
        fingerprints=tuple(keys),
        want_config=want_config,
        resolve=resolve,
    )
