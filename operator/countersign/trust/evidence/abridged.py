"""What a receipt keeps of the facts about images that many have signed.

A receipt is an annotation, in etcd with every pod, and bounded. One certificate takes two kilobytes there, and anybody
who may push to a repository can hang fifty of them on an image. Kept is what the policies of the admission go by; that
more was found stays on record, since nobody may call the image unsigned by what was left out.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from countersign.trust.evidence.attestation_verdict import Shortcoming, attested
from countersign.trust.evidence.facts import Attestation, ImageFacts, Vouch
from countersign.trust.evidence.image_evidence import signed_digest
from countersign.trust.evidence.signers import Weights, objection
from countersign.trust.policies.compiled import CompiledPolicy, CompiledRule, compiled, compiled_policy
from countersign.trust.policies.policy import Policy, PolicySnapshot

MAX_WHOLE: Final = 6
"""Signatures and attestations of a pod's images that are kept whoever made them: more than most pods have."""
MAX_EACH: Final = 3
"""Signers, of those that meet the same demand. Should one be revoked, the others still stand."""


def abridged(
    snapshot: PolicySnapshot,
    namespace: str,
    policies: Iterable[Policy],
    images: Mapping[str, ImageFacts],
    found_at: float,
) -> dict[str, ImageFacts]:
    """The facts, without what no policy goes by where there is much. The same policies judge them as they did.

    `found_at`: seconds since the epoch, as for `verdict.judge`.
    """
    if sum([len(facts.vouches) + len(facts.attestations) for facts in images.values()]) <= MAX_WHOLE:
        return dict(images)
    index = compiled(snapshot)
    weights = Weights(index.standing.for_namespace(namespace), index.roots, found_at)
    governing = [compiled_policy(policy) for policy in policies]
    return {image: _abridged(facts, governing, weights) for image, facts in images.items()}


def _abridged(facts: ImageFacts, policies: list[CompiledPolicy], weights: Weights) -> ImageFacts:
    rules = [rule for policy in policies for rule in policy.matching(facts.image)]
    asked = frozenset(name for rule in rules for name in rule.extensions)
    vouches = {vouch for rule in rules for vouch in _vouching(rule, facts, weights)}
    attestations = {one for rule in rules for one in _attesting(rule, facts, weights)}
    # One other of each, so that a finding can say who signed instead.
    vouches.update([vouch for vouch in facts.vouches if vouch not in vouches][:1])
    attestations.update([one for one in facts.attestations if one not in attestations][:1])
    kept = tuple([_brief(vouch, asked) for vouch in facts.vouches if vouch in vouches])
    kept_attestations = tuple(
        [replace(one, vouch=_brief(one.vouch, asked)) for one in facts.attestations if one in attestations]
    )
    if (kept, kept_attestations) == (facts.vouches, facts.attestations):
        return facts
    left_out = len(facts.vouches) + len(facts.attestations) - len(kept) - len(kept_attestations)
    return replace(facts, vouches=kept, attestations=kept_attestations, left_out=facts.left_out + max(left_out, 1))


def _brief(vouch: Vouch, asked: frozenset[str]) -> Vouch:
    """Without the extensions that no rule asks about, which are most of a certificate."""
    identity = vouch.identity
    if identity is None or all(name in asked for name, _ in identity.extensions):
        return vouch
    extensions = tuple([pair for pair in identity.extensions if pair[0] in asked])
    return replace(vouch, identity=replace(identity, extensions=extensions))


def _vouching(rule: CompiledRule, facts: ImageFacts, weights: Weights) -> Iterable[Vouch]:
    signers: dict[tuple[int, str], set[str]] = {}
    for vouch in facts.vouches:
        for authority in rule.signers.naming(vouch):
            if not objection(authority, vouch, facts.image, weights) and _is_new(
                vouch, signers.setdefault((id(authority), signed_digest(vouch, facts)), set())
            ):
                yield vouch


def _attesting(rule: CompiledRule, facts: ImageFacts, weights: Weights) -> Iterable[Attestation]:
    digests = dict.fromkeys(signed_digest(one.vouch, facts) for one in facts.attestations)
    for want in rule.attestations:
        for digest in digests:
            found = attested(want, facts, digest, weights)
            signers: set[str] = set()
            if not isinstance(found, Shortcoming):
                yield from (one.attestation for one in found if _is_new(one.attestation.vouch, signers))
            elif found.flaw is not None:
                yield found.flaw.candidate.attestation


def _is_new(vouch: Vouch, signers: set[str]) -> bool:
    """Whether it is by another signer than those before, of whom there are not enough yet."""
    who = vouch.key_fingerprint or str(vouch.identity)
    if who in signers or len(signers) >= MAX_EACH:
        return False
    signers.add(who)
    return True
