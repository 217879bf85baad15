"""What is told of an image that lacks what a rule asks for: what was expected, what was found, and the way out.

Worked out only once something is missing. A root that cannot be used, and a question that nobody has asked yet, come
before every definite no: an image is called unsigned only where that is known.
"""

from collections.abc import Iterable
from typing import Final

from countersign.api.clock import format_time, from_seconds
from countersign.trust.evidence.attestation_verdict import Flaw, Shortcoming
from countersign.trust.evidence.facts import ImageFacts, Vouch
from countersign.trust.evidence.image_evidence import Case, KnownImage, signed_digest
from countersign.trust.evidence.signers import Objection, objection, signer
from countersign.trust.policies.authorities import CompiledAuthority
from countersign.trust.policies.compiled import CompiledAttestation, CompiledRule
from countersign.trust.policies.policy import DEFAULT_ROOT
from countersign.trust.verdicts.problem import Problem

_Against = tuple[Objection, CompiledAuthority, Vouch]
"""Why a vouch does not count for an authority."""

_REMEDIES: Final[dict[str, str]] = {
    "Unauthorized": "give the pod or its service account an imagePullSecret that may read the repository",
    "Malformed": "push the image and its signatures anew: what the registry holds is damaged",
    "AddressDenied": "use a registry at a public address, or have the cluster's admins allow this one",
    "TooLarge": "use an image with fewer signatures or a smaller manifest",
}
_OTHERWISE: Final = "try again once the registry answers"
_AGAIN: Final = "create the pod anew, so that the image is verified for the policy of today"
_NAMED: Final = 4
"""Authorities that an expectation names."""
_SHOWN: Final = 100
"""Characters of an expression, an identity or a found value that is quoted."""


def unanswered(rule: CompiledRule, image: KnownImage, stale_seconds: int) -> Problem:
    """Nothing is known about the image, or nothing that is fresh enough."""
    expected = expectation(rule)
    unverifiable, facts = image.unverifiable, image.facts
    if facts is not None:
        limit = f"longer ago than staleEvidenceSeconds allows ({stale_seconds} s)"
        found = f"the registry cannot be asked, and what was found {facts.stale_seconds} s ago is {limit}"
        return Problem("ImageUnverifiable", expected, found, _OTHERWISE, transient=True)
    if unverifiable is None:
        found = image.problem or "no evidence about it"
        return Problem("ImageUnverifiable", expected, found, "create the pod anew, so that the image is verified")
    if unverifiable.reason == "NotFound":
        return Problem("ImageNotFound", expected, unverifiable.message, "push the image first, or correct its name")
    remedy = "nothing needs to be done" if unverifiable.transient else _REMEDIES.get(unverifiable.reason, _OTHERWISE)
    return Problem("ImageUnverifiable", expected, unverifiable.message, remedy, transient=unverifiable.transient)


def unsigned(case: Case, digest: str) -> Problem:
    """No authority vouches for that digest (empty text: the image's own)."""
    rule, facts = case.rule, case.facts
    expected = expectation(rule)
    if not rule.authorities:
        remedy = "use a listed digest, or ask the policy's owner to list this one"
        return Problem("ImageUnsigned", expected, f"digest {facts.digest}", remedy)
    where = _where(facts, digest)
    vouches = [vouch for vouch in facts.vouches if signed_digest(vouch, facts) == digest]
    against: list[_Against] = [
        (found, authority, vouch)
        for vouch in vouches
        for authority in rule.signers.naming(vouch)
        if (found := objection(authority, vouch, facts.image, case.weights))
    ]
    named = {id(vouch) for _, _, vouch in against}
    against += [("Stranger", rule.authorities[0], vouch) for vouch in vouches if id(vouch) not in named]
    told = _objected(expected, where, against, case)
    if told is not None:
        return told
    open_question = _open_question(expected, rule.authorities, case)
    if open_question is not None:
        return open_question
    keyed = [authority for authority in rule.authorities if authority.keys]
    strangers, misfit = _strangers(vouch for _, _, vouch in against), _misfit(against)
    if misfit:
        what = f"signed by {misfit}"
    elif strangers:
        what = f"signed by {strangers}, whom no authority of the rule names"
    else:
        what = "none by its keys" if len(keyed) == len(rule.authorities) else "none by its signers"
    sign = "cosign sign --key ..." if keyed else "cosign sign, as one of those"
    return Problem("ImageUnsigned", expected, where + what, f"sign the image ({sign}) or use a signed one")


def unattested(case: Case, want: CompiledAttestation, digest: str, short: Shortcoming) -> Problem:
    """The attestation is missing for that digest, or does not do."""
    rule, facts = case.rule, case.facts
    by = _names(want.authorities)
    expected = f"attestation {want.name} ({want.predicate_type}) by {by} (rule {rule.name})"
    where = _where(facts, digest)
    if short.flaw is not None:
        return _flawed(expected, where, want, short.flaw)
    against: list[_Against] = [(found, authority, one.vouch) for found, authority, one in short.objections]
    told = _objected(expected, where, against, case)
    if told is not None:
        return told
    open_question = _open_question(expected, want.authorities, case)
    if open_question is not None:
        return open_question
    if want.predicate_type not in facts.checked_predicates:
        return Problem("ImageUnverifiable", expected, "evidence from before the policy asked for it", _AGAIN)
    strangers, misfit = _strangers(vouch for _, _, vouch in against), _misfit(against)
    if misfit:
        found = f"{where}one by {misfit}"
    else:
        found = f"{where}one by {strangers} only, who may not make it" if strangers else f"{where}none of that type"
    remedy = f"attest it (cosign attest --type {want.predicate_type} ...) as one who may"
    return Problem("AttestationMissing", expected, found, remedy)


def unknown_platforms(rule: CompiledRule) -> Problem:
    """The rule asks about every platform's manifest, and nobody has looked which there are."""
    return Problem("ImageUnverifiable", expectation(rule), "no record of the image's platforms", _AGAIN)


def expectation(rule: CompiledRule) -> str:
    """What the rule asks for first: a signature, a digest or, where it asks for nothing else, attestations."""
    ways = []
    on = {"Digest": "", "Platforms": " on the manifest of each platform", "Either": " on the index or each platform"}
    if rule.authorities:
        ways.append(f"a signature{on[rule.signature_on]} by {_names(rule.authorities)}")
    if rule.digests:
        ways.append("a listed digest")
    if not ways:
        ways.append(f"attestation {rule.attestations[0].name}" if rule.attestations else "a listed digest")
    return f"{' or '.join(ways)} (rule {rule.name})"


def _names(authorities: tuple[CompiledAuthority, ...]) -> str:
    shown = [
        f"{one.name} ({quoted(str(one.identities[0]))}{' or another' if len(one.identities) > 1 else ''})"
        if one.identities and len(authorities) <= 2
        else one.name
        for one in authorities[:_NAMED]
    ]
    return " or ".join(shown) + (" or another" if len(authorities) > _NAMED else "")


def quoted(text: str, limit: int = _SHOWN) -> str:
    """The text, cut in the middle."""
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def _where(facts: ImageFacts, digest: str) -> str:
    if not digest:
        return ""
    return f"on {next((one.platform for one in facts.configs if one.digest == digest), digest)}: "


def _strangers(vouches: Iterable[Vouch]) -> str:
    """Whom certificates name. Keys that nobody asked about are not known."""
    found = sorted({signer(vouch) for vouch in vouches if vouch.identity is not None})
    return "" if not found else found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"


def _misfit(against: list[_Against]) -> str:
    """Somebody whose issuer and subject fit, and the extension that does not."""
    found = sorted(
        f"{signer(vouch)}, whose {misfit}"
        for _, authority, vouch in against
        if vouch.identity is not None
        for identity in authority.identities
        if (misfit := identity.misfit(vouch.identity))
    )
    return found[0] if found else ""


def _objected(expected: str, where: str, against: list[_Against], case: Case) -> Problem | None:
    """What stands in the way of one who is meant; None: nobody who is meant has signed."""
    by_kind: dict[Objection, tuple[CompiledAuthority, Vouch]] = {}
    for found, authority, vouch in sorted(against, key=lambda one: (one[1].name, signer(one[2]))):
        by_kind.setdefault(found, (authority, vouch))
    if "Revoked" in by_kind:
        keyless = by_kind["Revoked"][1].identity is not None
        what = f"{where}only signatures by a revoked {'signer' if keyless else 'key'}"
        remedy = f"have the image signed {'by a signer' if keyless else 'with a key'} that is not revoked"
        return Problem("ImageUnsigned", expected, what, remedy)
    if "OtherRepository" in by_kind:
        remedy = "sign it under its own name in the classic format (cosign sign --new-bundle-format=false)"
        return Problem("ImageUnsigned", expected, f"{where}signatures that name another repository or none", remedy)
    unproven = by_kind.get("ProofMissing") or by_kind.get("NoTrustedTime")
    if unproven is not None:
        return _unproven(expected, where, *unproven)
    if "OtherRoot" in by_kind:
        authority, vouch = by_kind["OtherRoot"]
        if case.weights.roots[authority.root].hash not in case.facts.checked_roots:
            return None  # evidence from before the root changed, which is told as such
        what = f"{where}signed by {signer(vouch)}, on certificates or logs that EvidenceRoot {authority.root} lacks"
        return Problem("ImageUnsigned", expected, what, "sign it with the Sigstore that the evidence root describes")
    return None


def _unproven(expected: str, where: str, authority: CompiledAuthority, vouch: Vouch) -> Problem:
    proof = vouch.proof
    if proof is not None and proof.signed_at is None and vouch.identity is not None:
        missing = "a trusted time"
    else:
        kinds = {"log": "TransparencyLog", "timestamp": "Timestamp", "sct": "SCT"}
        missing = ", ".join(sorted(kinds[kind] for kind in authority.require - set(proof.kinds if proof else ())))
    found = f"{where}signed by {signer(vouch)}, without {missing or 'a proof'}"
    remedy = "sign it with a transparency log or a timestamp authority of the evidence root"
    return Problem("ImageUnsigned", expected, found, remedy)


def _open_question(expected: str, authorities: tuple[CompiledAuthority, ...], case: Case) -> Problem | None:
    """Something that was not asked, so that nothing definite can be said."""
    rule, facts, roots = case.rule, case.facts, case.weights.roots
    for name in dict.fromkeys(one.root for one in authorities if one.root):
        root = roots.get(name)
        if root is None:
            return _root_missing(expected, name)
        if root.problem:
            remedy = f"see kubectl describe evidenceroot {name}"
            return Problem("EvidenceRootUnusable", expected, f"EvidenceRoot {name} unusable: {root.problem}", remedy)
        if root.hash not in facts.checked_roots:
            found = f"evidence from before EvidenceRoot {name} was what it is"
            return Problem("ImageUnverifiable", expected, found, _AGAIN)
    if any(not one.fingerprints <= set(facts.checked_keys) for one in authorities):
        found = "evidence from before the policy had these keys"
        return Problem("ImageUnverifiable", expected, found, _AGAIN)
    if facts.left_out:
        found = "evidence for the policies of its admission only, without other signatures that were found"
        return Problem("ImageUnverifiable", expected, found, _AGAIN)
    if rule.repository not in facts.searched:
        found = "evidence from before the policy named this signatureRepository"
        return Problem("ImageUnverifiable", expected, found, _AGAIN)
    if rule.signature_on != "Digest" and not facts.platforms_checked and len(facts.configs) > 1:
        found = "evidence from before the policy asked about platforms"
        return Problem("ImageUnverifiable", expected, found, _AGAIN)
    return None


def _root_missing(expected: str, name: str) -> Problem:
    if name == DEFAULT_ROOT:
        found = "the built-in evidence root public-good is not at hand yet"
        return Problem("EvidenceRootMissing", expected, found, "try again; countersign doctor says what is wrong")
    remedy = "have the cluster's admins create it, or name another one in evidenceRootRef"
    return Problem("EvidenceRootMissing", expected, f"no EvidenceRoot {name}, by which signers are known", remedy)


def _flawed(expected: str, where: str, want: CompiledAttestation, flaw: Flaw) -> Problem:
    one = flaw.candidate
    if flaw.condition is not None:
        condition = flaw.condition
        if flaw.kind == "Unanswered":
            found = f"evidence from before the policy had the condition {quoted(condition.expression)}"
            return Problem("ImageUnverifiable", expected, found, _AGAIN)
        said = condition.message or f"not true: {condition.expression}"
        found = f"{where}{quoted(said, 140)}" + (f" (found {quoted(flaw.found, 90)})" if flaw.found else "")
        remedy = f"make an image for which it holds, and attest that as {one.authority.name}"
        return Problem("AttestationFailed", expected, found, remedy)
    remedy = "attest it anew, with a transparency log or a timestamp authority of the evidence root"
    if one.signed_at is None:
        needs = "maxAgeSeconds" if want.max_age is not None else "select Latest"
        found = f"{where}one by {signer(one.attestation.vouch)} without a trusted time, which {needs} needs"
        return Problem("AttestationTooOld", expected, found, remedy)
    # The time and not the age, so that the same fault is told in the same words whenever it is asked about.
    found = f"{where}one of {format_time(from_seconds(one.signed_at))}; maxAgeSeconds is {want.max_age}"
    return Problem("AttestationTooOld", expected, found, remedy)
