"""Who signed these bytes: the keys asked about first, then certificates under each root.

Signatures only. What the payload says, and whether it is about the image at hand, is judged by whoever asks, once the
payload is known to be signed.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.annotations import SIGNATURE_ANNOTATION, read_annotations
from countersign.signatures.formats.bundles import read_bundle
from countersign.signatures.formats.envelopes import Envelope, pre_authentication_encoding
from countersign.signatures.formats.raw import decode_signature
from countersign.signatures.keys import PublicKey
from countersign.signatures.roots.trust_root import TrustRoot
from countersign.signatures.witnesses.log_bodies import Signed
from countersign.signatures.witnesses.proofs import Material, prove_certified_signature, prove_key_signature
from countersign.trust.evidence.facts import Vouch
from countersign.trust.strict_json import BadJSON, parse_as

MAX_ENVELOPE_SIGNATURES: Final = 8
"""Of a classic envelope; cosign writes one."""

_Form = Literal["classic", "bundle"]


class Opened(NamedTuple):
    """A signed payload, and who signed it: at least one."""

    payload_type: str
    payload: bytes
    vouches: tuple[Vouch, ...]
    """One for each signer and root, without the image's digest and reference."""
    problems: tuple[str, ...] = ()
    """Of proofs that came along and do not hold: phrases for a person. They proved nothing."""


class Found(NamedTuple):
    """Who made a signature, and which of the proofs beside it do not hold."""

    vouches: tuple[Vouch, ...]
    problems: tuple[str, ...]


def open_bundle(bundle: bytes, keys: Sequence[PublicKey], roots: Sequence[TrustRoot]) -> Opened:
    """Check the signature of a Sigstore bundle before anything of its payload is read. Raises SignatureError."""
    read = read_bundle(bundle)
    envelope = read.envelope
    if envelope is None:
        raise SignatureError("OtherType", "the bundle has no DSSE envelope: it signs a blob, not an image")
    if len(envelope.signatures) != 1:
        raise SignatureError("Malformed", "a bundle's envelope has exactly one signature")
    hinted_first = sorted(keys, key=lambda key: key.fingerprint != read.hinted_fingerprint)
    return _open(envelope, read.material, hinted_first, roots)


def open_envelope(
    envelope: bytes, annotations: Mapping[str, str], keys: Sequence[PublicKey], roots: Sequence[TrustRoot]
) -> Opened:
    """Check a classic attestation (`.att`): a bare DSSE envelope as a layer. Raises SignatureError."""
    try:
        read = parse_as(envelope, Envelope)
    except BadJSON as error:
        raise SignatureError("Malformed", f"not a DSSE envelope: {error}") from None
    if not 1 <= len(read.signatures) <= MAX_ENVELOPE_SIGNATURES:
        raise SignatureError("Malformed", f"the envelope has {len(read.signatures)} signatures")
    return _open(read, read_annotations(annotations), keys, roots, document=envelope)


def open_payload(
    payload: bytes, annotations: Mapping[str, str], keys: Sequence[PublicKey], roots: Sequence[TrustRoot]
) -> tuple[Vouch, ...]:
    """Check a classic signature (`.sig`): a payload as layer, all else in annotations. Raises SignatureError."""
    signature = decode_signature(annotations.get(SIGNATURE_ANNOTATION, ""))
    return find_signers(Signed(payload, signature), read_annotations(annotations), keys, roots, "classic").vouches


def find_signers(
    signed: Signed, material: Material, keys: Sequence[PublicKey], roots: Sequence[TrustRoot], form: _Form
) -> Found:
    """Who made the signature, by keys and by the certificate that came along. Raises SignatureError: nobody known."""
    vouches: list[Vouch] = []
    problems = dict.fromkeys(material.problems)
    # 1. A key that was asked about made it. A root's proof may stand beside, and need not.
    key = next((one for one in keys if one.verify(signed.signature, signed.message)), None)
    if key is not None:
        by_key = signed._replace(verifier=key.der)
        bare = Vouch(key_fingerprint=key.fingerprint, format=form, reference="")
        proofs = []
        for root in roots:
            proven = prove_key_signature(by_key, material, root)
            problems.update(dict.fromkeys(proven.problems))
            proofs += [proven.proof] if proven.proof.anchors else []
        vouches += [
            Vouch(key_fingerprint=key.fingerprint, format=form, reference="", proof=proof) for proof in proofs
        ] or [bare]
    # 2. The certificate's key made it, and a root vouches for the certificate.
    certificate = material.certificate
    refusal = SignatureError("NoKeyMatches", "none of the keys asked about made this signature")
    if certificate is not None and roots:
        if certificate.key.verify(signed.signature, signed.message):
            certified = signed._replace(verifier=certificate.der)
            for root in roots:
                try:
                    proven = prove_certified_signature(certified, material, certificate, root)
                except SignatureError as error:
                    refusal = error
                    problems[str(error)] = None
                    continue
                problems.update(dict.fromkeys(proven.problems))
                vouches.append(
                    Vouch(
                        key_fingerprint="",
                        format=form,
                        reference="",
                        identity=certificate.identity,
                        proof=proven.proof,
                    )
                )
        else:
            refusal = SignatureError(
                "NoKeyMatches", "neither the keys asked about nor its certificate made this signature"
            )
    if not vouches:
        if material.problems:
            raise SignatureError(refusal.problem, f"{refusal}; {'; '.join(material.problems)}")
        raise refusal
    return Found(tuple(vouches), tuple(problems))


def _open(
    envelope: Envelope,
    material: Material,
    keys: Sequence[PublicKey],
    roots: Sequence[TrustRoot],
    *,
    document: bytes | None = None,
) -> Opened:
    payload = envelope.decoded_payload()
    message = pre_authentication_encoding(envelope.payload_type, payload)
    vouches: dict[Vouch, None] = {}
    problems: dict[str, None] = {}
    refusal = SignatureError("Malformed", "the envelope has no signature")
    for one in envelope.signatures:
        try:
            signed = Signed(message, decode_signature(one.sig), payload, document)
            found = find_signers(signed, material, keys, roots, "bundle" if document is None else "classic")
        except SignatureError as error:
            refusal = error
            continue
        vouches.update(dict.fromkeys(found.vouches))
        problems.update(dict.fromkeys(found.problems))
    if not vouches:
        raise refusal
    return Opened(envelope.payload_type, payload, tuple(vouches), tuple(problems))
