"""Who signed these bytes: the keys asked about first, then certificates under each root.

Signatures only. What the payload says, and whether it is about the image at hand, is judged by whoever asks, once the
payload is known to be signed.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from countersign.signatures.bundles import read_bundle
from countersign.signatures.envelopes import Envelope, pre_authentication_encoding
from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import PublicKey
from countersign.signatures.raw import decode_signature, signing_key
from countersign.signatures.roots import TrustRoot
from countersign.trust.evidence.facts import Vouch
from countersign.trust.strict_json import BadJSON, parse_as

SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
MAX_ENVELOPE_SIGNATURES: Final = 8
"""Of a classic envelope; cosign writes one."""


class Opened(NamedTuple):
    """A signed payload, and who signed it: at least one."""

    payload_type: str
    payload: bytes
    vouches: tuple[Vouch, ...]
    """One for each signer and root, without the image's digest and reference."""


def open_bundle(bundle: bytes, keys: Sequence[PublicKey], roots: Sequence[TrustRoot]) -> Opened:
    """Check the signature of a Sigstore bundle before anything of its payload is read. Raises SignatureError."""
    read = read_bundle(bundle)
    envelope = read.dsse_envelope
    if envelope is None:
        raise SignatureError("OtherType", "the bundle has no DSSE envelope: it signs a blob, not an image")
    if len(envelope.signatures) != 1:
        raise SignatureError("Malformed", "a bundle's envelope has exactly one signature")
    hinted = read.hinted_fingerprint
    return _open(envelope, sorted(keys, key=lambda key: key.fingerprint != hinted), "bundle")


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
    return _open(read, keys, "classic")


def open_payload(
    payload: bytes, annotations: Mapping[str, str], keys: Sequence[PublicKey], roots: Sequence[TrustRoot]
) -> tuple[Vouch, ...]:
    """Check a classic signature (`.sig`): a payload as layer, all else in annotations. Raises SignatureError."""
    key = signing_key(decode_signature(annotations.get(SIGNATURE_ANNOTATION, "")), payload, keys)
    return (Vouch(key_fingerprint=key.fingerprint, format="classic", reference=""),)


def _open(envelope: Envelope, keys: Sequence[PublicKey], form: str) -> Opened:
    payload = envelope.decoded_payload()
    message = pre_authentication_encoding(envelope.payload_type, payload)
    signers: dict[str, None] = {}
    problem = SignatureError("Malformed", "the envelope has no signature")
    for one in envelope.signatures:
        try:
            signers[signing_key(decode_signature(one.sig), message, keys).fingerprint] = None
        except SignatureError as error:
            problem = error
    if not signers:
        raise problem
    vouches = tuple(
        Vouch(key_fingerprint=signer, format="bundle" if form == "bundle" else "classic", reference="")
        for signer in signers
    )
    return Opened(envelope.payload_type, payload, vouches)
