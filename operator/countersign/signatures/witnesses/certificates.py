"""Signing certificates: whom one was issued to, and whether it goes back to an evidence root at a given time.

Sources: sigstore/fulcio docs/oid-info.md and docs/certificate-specification.md; RFC 5280; the Sigstore client
specification, "Certificate" (every certificate of the chain must be valid at each trusted time).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import BadPublicKey, PublicKey, public_key_of
from countersign.signatures.roots.trust_root import UNREADABLE_CERTIFICATE, Authority
from countersign.trust.evidence.facts import Identity

MAX_CERTIFICATE_BYTES: Final = 16 * 1024
"""In DER. Fulcio's have 2 KiB."""
MAX_VALUE_LENGTH: Final = 1024
"""Of subject, issuer and each extension, in characters: what a policy can name."""

_FULCIO: Final = "1.3.6.1.4.1.57264.1."
_ISSUER_RAW: Final = x509.ObjectIdentifier(_FULCIO + "1")
_ISSUER: Final = x509.ObjectIdentifier(_FULCIO + "8")
_OTHER_NAME: Final = x509.ObjectIdentifier(_FULCIO + "7")
_RAW_EXTENSIONS: Final = {
    2: "githubWorkflowTrigger",
    3: "githubWorkflowSHA",
    4: "githubWorkflowName",
    5: "githubWorkflowRepository",
    6: "githubWorkflowRef",
}
"""Whose values are bare text."""
_EXTENSIONS: Final = {
    9: "buildSignerURI",
    10: "buildSignerDigest",
    11: "runnerEnvironment",
    12: "sourceRepositoryURI",
    13: "sourceRepositoryDigest",
    14: "sourceRepositoryRef",
    15: "sourceRepositoryIdentifier",
    16: "sourceRepositoryOwnerURI",
    17: "sourceRepositoryOwnerIdentifier",
    18: "buildConfigURI",
    19: "buildConfigDigest",
    20: "buildTrigger",
    21: "runInvocationURI",
    22: "sourceRepositoryVisibilityAtSigning",
    23: "deploymentEnvironment",
}
"""Whose values are UTF8Strings in DER."""
_OPTIONAL: Final = (x509.ExtendedKeyUsage, x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)
"""Extensions that the library demands as the web's rules have them. What a key may be used for is judged in
`read_certificate`, for the library knows servers and clients of TLS only; key identifiers are hints to find a path,
which private authorities leave out."""


def _lenient(policy: ExtensionPolicy) -> ExtensionPolicy:
    for extension in _OPTIONAL:
        policy = policy.may_be_present(extension, Criticality.AGNOSTIC, None)
    return policy


_AUTHORITY: Final = _lenient(ExtensionPolicy.webpki_defaults_ca())
_LEAF: Final = _lenient(ExtensionPolicy.webpki_defaults_ee())


class SigningCertificate(NamedTuple):
    """A certificate that may sign code, read but not yet trusted."""

    certificate: x509.Certificate
    der: bytes
    key: PublicKey
    identity: Identity


def read_certificate(der: bytes) -> SigningCertificate:
    """Read a leaf that fits Fulcio's profile: no CA, for code signing, with one subject. Raises SignatureError."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise SignatureError("Malformed", f"the certificate is longer than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = public_key_of(certificate.public_key())
        _judge_usage(certificate.extensions)
        identity = _identity(certificate.extensions)
    except (*UNREADABLE_CERTIFICATE, BadPublicKey) as error:
        raise SignatureError("Malformed", f"the certificate cannot be read: {str(error)[:120]}") from None
    return SigningCertificate(certificate, der, key, identity)


def chain_at(
    leaf: SigningCertificate, authorities: Sequence[Authority], time: datetime
) -> tuple[Authority, x509.Certificate]:
    """The authority whose chain, and its own word, hold for the leaf at this time, and the certificate that issued it.

    Only certificates of the evidence root count: intermediates that come along with a signature are not read, so that
    the root says it all about who may issue. Raises SignatureError (Untrusted).
    """
    problem = "the evidence root names no certificate authority"
    for authority in authorities:
        if not authority.window.holds(time):
            problem = f"the authority that issued the certificate is not believed for {time:%Y-%m-%dT%H:%M:%SZ}"
            continue
        verifier = (
            PolicyBuilder()
            .store(Store([authority.chain[-1]]))
            .time(time)
            .extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
            .build_client_verifier()
        )
        try:
            chain = verifier.verify(leaf.certificate, list(authority.chain[:-1])).chain
        except (VerificationError, *UNREADABLE_CERTIFICATE) as error:
            problem = f"the certificate does not go back to the evidence root: {str(error)[:120]}"
            continue
        if len(chain) > 1:
            return authority, chain[1]
    raise SignatureError("Untrusted", problem)


def _judge_usage(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise ValueError("it is that of an authority, which signs certificates only")
    if not extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
        raise ValueError("its key is not for signatures")
    if ExtendedKeyUsageOID.CODE_SIGNING not in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
        raise ValueError("it is not for code signing")


def _identity(extensions: x509.Extensions) -> Identity:
    values = {one.oid: one.value.value for one in extensions if isinstance(one.value, x509.UnrecognizedExtension)}
    issuers = {read(values[oid]) for oid, read in ((_ISSUER, _utf8_string), (_ISSUER_RAW, _text)) if oid in values}
    if len(issuers) != 1:
        raise ValueError("it names no issuer of its identity" if not issuers else "it names two issuers")
    named = [
        (name, read(values[oid]))
        for numbers, read in ((_EXTENSIONS, _utf8_string), (_RAW_EXTENSIONS, _text))
        for number, name in numbers.items()
        if (oid := x509.ObjectIdentifier(f"{_FULCIO}{number}")) in values
    ]
    return Identity(
        issuer=_name(issuers.pop()),
        subject=_name(_subject(extensions)),
        # What no policy could name, a workflow's with a line break in its name, is as good as not there.
        extensions=tuple(sorted((name, value) for name, value in named if _is_plain(value))),
    )


def _subject(extensions: x509.Extensions) -> str:
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1:
        raise ValueError(f"it has {len(names)} subjects, and must have one")
    match names[0]:
        case x509.RFC822Name(value=text) | x509.UniformResourceIdentifier(value=text):
            return text
        case x509.OtherName(type_id=kind, value=der) if kind == _OTHER_NAME:
            return _utf8_string(der)
    raise ValueError("its subject is neither a mail address nor a URI nor a user name")


def _name(text: str) -> str:
    if not text or not _is_plain(text):
        raise ValueError("its issuer or subject is empty, too long, or has characters that cannot be printed")
    return text


def _is_plain(text: str) -> bool:
    return len(text) <= MAX_VALUE_LENGTH and text.isprintable()


def _utf8_string(der: bytes) -> str:
    """A UTF8String in DER (ITU-T X.690): tag, length, bytes, and nothing else."""
    if len(der) < 2 or der[0] != 0x0C:
        raise ValueError("an extension of its is no UTF8String")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
        if not 0x80 <= length <= 0xFFFF or der[2] == 0:
            raise ValueError("an extension of its has a bad length")
    if len(der) != start + length:
        raise ValueError("an extension of its has a bad length")
    return _text(der[start:])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8")
