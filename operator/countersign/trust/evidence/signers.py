"""Whose signature counts: what a vouch must show for an authority, and what stands in its way.

A vouch is a fact, found out when the image was verified. Whether it counts is asked anew at each judgement: by the
identities of today's policy, by what stands revoked, and by what the evidence root holds now. A refreshed root so takes
away exactly what rests on material that left it.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from countersign.trust.evidence.facts import Vouch
from countersign.trust.images.extraction import image_name
from countersign.trust.orders.standing import Standing
from countersign.trust.policies.authorities import CompiledAuthority
from countersign.trust.policies.policy import RootFacts

Objection = Literal[
    "",
    "Stranger",
    "Revoked",
    "OtherRepository",
    "RootMissing",
    "RootUnusable",
    "OtherRoot",
    "NoTrustedTime",
    "ProofMissing",
]
"""Why a vouch does not count; empty: it does. In the order in which they are asked."""


class Weights(NamedTuple):
    """What signatures are weighed by, besides policies."""

    standing: Standing
    roots: Mapping[str, RootFacts]
    found_at: float
    """When the evidence was found, in seconds since the epoch: the age of attestations is that of then."""


def objection(authority: CompiledAuthority, vouch: Vouch, name: str, weights: Weights) -> Objection:
    """What stands in the way of this vouch for an image of that `registry/repository`."""
    identity = vouch.identity
    if identity is None:
        fingerprint = vouch.key_fingerprint
        if fingerprint not in authority.fingerprints:
            return "Stranger"
        if fingerprint in weights.standing.fingerprints:
            return "Revoked"
        if authority.require_reference and not _names_repository(vouch, name):
            return "OtherRepository"
        return _objection_to_proof(authority, vouch, weights) if authority.require else ""
    if vouch.key_fingerprint or not authority.identities or not authority.fits(identity):
        return "Stranger"
    if (identity.issuer, identity.subject) in weights.standing.signers:
        return "Revoked"
    return _objection_to_proof(authority, vouch, weights)


def _objection_to_proof(authority: CompiledAuthority, vouch: Vouch, weights: Weights) -> Objection:
    root = weights.roots.get(authority.root)
    if root is None:
        return "RootMissing"
    if root.problem:
        return "RootUnusable"
    proof = vouch.proof
    if proof is None:
        return "ProofMissing"
    # Without a single anchor it would rest on nothing, and so on every root.
    if not proof.anchors or not root.anchors.issuperset(proof.anchors):
        return "OtherRoot"
    if proof.signed_at is None and vouch.identity is not None:
        return "NoTrustedTime"
    if authority.require and not authority.require.issubset(proof.kinds):
        return "ProofMissing"
    return ""


def trusted_time(authority: CompiledAuthority, vouch: Vouch, weights: Weights) -> int | None:
    """When it was signed, in seconds since the epoch, by somebody whom the authority's evidence root trusts."""
    root = weights.roots.get(authority.root)
    proof = vouch.proof
    if root is None or root.problem or proof is None:
        return None
    return proof.signed_at if proof.anchors and root.anchors.issuperset(proof.anchors) else None


def signer(vouch: Vouch) -> str:
    """Who it was, for people."""
    if vouch.identity is None:
        return f"key {vouch.key_fingerprint}"
    return f"{_cut(vouch.identity.subject, 110)} of issuer {_cut(vouch.identity.issuer, 70)}"


def _cut(text: str, limit: int) -> str:
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def _names_repository(vouch: Vouch, name: str) -> bool:
    return vouch.format == "classic" and image_name(vouch.reference) == name
