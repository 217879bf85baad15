"""What a receipt keeps of the facts about an image that many have signed.

A receipt is an annotation, in etcd with every pod. One stranger's certificate takes two kilobytes there, and anybody
who may push to a repository can hang fifty of them on an image. Kept is what the policies of the admission go by; that
more was found stays on record, since nobody may call the image unsigned by what was left out.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from countersign.trust.evidence.attestation_verdict import Shortcoming, attested
from countersign.trust.evidence.facts import Attestation, ImageFacts, Vouch
from countersign.trust.evidence.image_evidence import signed_digest
from countersign.trust.evidence.signers import Weights, objection
from countersign.trust.policies.compiled import CompiledPolicy, CompiledRule, compiled, compiled_policy
from countersign.trust.policies.policy import Policy, PolicySnapshot

MAX_WHOLE: Final = 8
"""Signatures and attestations of an image that are kept whoever made them: more than nearly every image has."""
MAX_EACH: Final = 4
"""Of those that meet the same demand. Should one signer be revoked, the others still stand."""
MAX_STRANGERS: Final = 2
"""Others, so that a finding can say who signed instead."""


def abridged(
    snapshot: PolicySnapshot,
    namespace: str,
    policies: Iterable[Policy],
    images: Mapping[str, ImageFacts],
    found_at: float,
) -> dict[str, ImageFacts]:
    """The facts, without what no policy goes by where there is much of it. The policies judge them as they did.

    `found_at`: seconds since the epoch, as for `verdict.judge`.
    """
    if all(_is_short(facts) for facts in images.values()):
        return dict(images)
    index = compiled(snapshot)
    weights = Weights(index.standing.for_namespace(namespace), index.roots, found_at)
    governing = [compiled_policy(policy) for policy in policies]
    return {
        image: facts if _is_short(facts) else _abridged(facts, governing, weights) for image, facts in images.items()
    }


def _is_short(facts: ImageFacts) -> bool:
    return len(facts.vouches) + len(facts.attestations) <= MAX_WHOLE


def _abridged(facts: ImageFacts, policies: list[CompiledPolicy], weights: Weights) -> ImageFacts:
    rules = [rule for policy in policies for rule in policy.matching(facts.image)]
    vouches = {vouch for rule in rules for vouch in _vouching(rule, facts, weights)}
    attestations = {one for rule in rules for one in _attesting(rule, facts, weights)}
    others = [vouch for vouch in facts.vouches if vouch not in vouches][:MAX_STRANGERS]
    other_attestations = [one for one in facts.attestations if one not in attestations][:MAX_STRANGERS]
    kept = tuple(one for one in facts.vouches if one in vouches or one in others)
    kept_attestations = tuple(one for one in facts.attestations if one in attestations or one in other_attestations)
    left_out = len(facts.vouches) + len(facts.attestations) - len(kept) - len(kept_attestations)
    return msgspec.structs.replace(
        facts, vouches=kept, attestations=kept_attestations, left_out=facts.left_out + left_out
    )


def _vouching(rule: CompiledRule, facts: ImageFacts, weights: Weights) -> Iterable[Vouch]:
    for authority in rule.authorities:
        taken: dict[str, int] = {}
        for vouch in facts.vouches:
            where = signed_digest(vouch, facts)
            if taken.get(where, 0) < MAX_EACH and not objection(authority, vouch, facts.image, weights):
                taken[where] = taken.get(where, 0) + 1
                yield vouch


def _attesting(rule: CompiledRule, facts: ImageFacts, weights: Weights) -> Iterable[Attestation]:
    digests = dict.fromkeys(signed_digest(one.vouch, facts) for one in facts.attestations)
    for want in rule.attestations:
        for digest in digests:
            found = attested(want, facts, digest, weights)
            if not isinstance(found, Shortcoming):
                yield from (one.attestation for one in found[:MAX_EACH])
            elif found.flaw is not None:
                yield found.flaw.candidate.attestation
