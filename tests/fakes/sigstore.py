"""A Sigstore made by hand, so that any part of what it vouches for can be made wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab.pki import key_usage
from tests.lab.sigstore.merkle import MerkleTree

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""When everything is signed; certificates live from a minute before to nine after."""
ISSUER = "https://token.actions.githubusercontent.com"
SUBJECT = "https://github.com/acme/ledger/.github/workflows/release.yml@refs/heads/main"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
FULCIO = "1.3.6.1.4.1.57264.1."
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")

FOR_SECRETS = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
"""Key encipherment only."""

Key = ec.EllipticCurvePrivateKey


def utf8(text: str) -> bytes:
    raw = text.encode()
    length = bytes([len(raw)]) if len(raw) < 0x80 else b"\x82" + struct.pack("!H", len(raw))
    if 0x80 <= len(raw) < 0x100:
        length = b"\x81" + bytes([len(raw)])
    return b"\x0c" + length + raw


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def spki(key: Any) -> bytes:
    der: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def key_id(key: Any) -> bytes:
    return hashlib.sha256(spki(key)).digest()


def sign(key: Key | ed25519.Ed25519PrivateKey, message: bytes) -> bytes:
    return key.sign(message, ec.ECDSA(hashes.SHA256())) if isinstance(key, Key) else key.sign(message)


def encoding(payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


@dataclass(frozen=True)
class Leaf:
    """A signer: an ephemeral key and its certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


class FakeSigstore:
    """Certificate authority with an intermediate, a certificate log, a log of each generation."""

    def __init__(self, *, key_identifiers: bool = True) -> None:
        self._key_identifiers = key_identifiers
        self.root_key, self.ca_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = self.authority("root", self.root_key, "root", self.root_key)
        self.ca = self.authority("intermediate", self.ca_key, "root", self.root_key)
        self.ct_key = ec.generate_private_key(ec.SECP256R1())
        self.v1_key = ec.generate_private_key(ec.SECP256R1())
        self.v2_key = ed25519.Ed25519PrivateKey.generate()

    def trusted_root(self, **members: Any) -> bytes:
        """trusted_root.json; `members` replace its own."""
        valid = {"start": "2026-01-01T00:00:00Z"}

        def log(key: Any) -> dict[str, Any]:
            public = {"rawBytes": text(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
            named = {"keyId": text(key_id(key))}
            return {"baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": named}

        chain = [{"rawBytes": text(one.public_bytes(Encoding.DER))} for one in (self.ca, self.root)]
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "certificateAuthorities": [{"certChain": {"certificates": chain}, "validFor": valid}],
                "tlogs": [log(self.v1_key), log(self.v2_key)],
                "ctlogs": [log(self.ct_key)],
                **members,
            }
        ).encode()

    def authority(self, name: str, key: Key, issuer: str, issuer_key: Key) -> x509.Certificate:
        builder = (
            _builder(_name(name), _name(issuer), key, NOW - timedelta(days=30), NOW + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(ca=True), critical=True)
        )
        return self._identified(builder, key, issuer_key).sign(issuer_key, hashes.SHA256())

    def _identified(self, builder: x509.CertificateBuilder, key: Key, issuer_key: Key) -> x509.CertificateBuilder:
        if not self._key_identifiers:
            return builder
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return builder.add_extension(own, critical=False).add_extension(issuer, critical=False)

    def leaf(
        self,
        *,
        subjects: Sequence[x509.GeneralName] = (x509.UniformResourceIdentifier(SUBJECT),),
        extensions: dict[int, bytes] | None = None,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CODE_SIGNING,),
        ca: bool = False,
        for_signatures: bool = True,
        issuer: str = "intermediate",
        issuer_key: Key | None = None,
        ct_key: Key | None = None,
        sct: bool = True,
        sct_at: datetime = NOW,
    ) -> Leaf:
        """A certificate as Fulcio issues it, unless told otherwise."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer_key = issuer_key or self.ca_key
        builder = (
            _builder(x509.Name([]), _name(issuer), key, NOW - timedelta(minutes=1), NOW + timedelta(minutes=9))
            .add_extension(key_usage(ca=ca) if for_signatures else FOR_SECRETS, critical=True)
            .add_extension(x509.SubjectAlternativeName(subjects), critical=True)
        )
        builder = self._identified(builder, key, issuer_key)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        for number, value in ({1: ISSUER.encode(), 8: utf8(ISSUER)} if extensions is None else extensions).items():
            oid = x509.ObjectIdentifier(f"{FULCIO}{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        if sct:
            before = builder.sign(issuer_key, hashes.SHA256()).tbs_certificate_bytes
            embedded = embedded_sct(before, issuer_key, ct_key or self.ct_key, sct_at)
            builder = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, embedded), critical=False)
        return Leaf(key, builder.sign(issuer_key, hashes.SHA256()))

    def entry_v1(
        self, body: Any, *, at: datetime = NOW, promised: Any = None, proven: Any = None, key: Key | None = None
    ) -> dict[str, Any]:
        """An entry of the first generation. `promised` and `proven`: another body that promise or proof are about."""
        key = key or self.v1_key
        log_id = key_id(key)
        promise = {
            "body": text(_json(promised or body)),
            "integratedTime": int(at.timestamp()),
            "logID": log_id.hex(),
            "logIndex": 7,
        }
        return {
            **_entry(log_id, body, "0.0.1"),
            "integratedTime": str(int(at.timestamp())),
            "inclusionPromise": {"signedEntryTimestamp": text(sign(key, _json(promise)))},
            "inclusionProof": _proof(key, _json(proven or body)),
        }

    def entry_v2(self, body: Any, *, proven: Any = None) -> dict[str, Any]:
        return {
            **_entry(key_id(self.v2_key), body, "0.0.2"),
            "inclusionProof": _proof(self.v2_key, _json(proven or body)),
        }


def dsse_body(signature: bytes, verifier: bytes, payload: bytes) -> dict[str, Any]:
    """An entry `dsse` 0.0.1; the verifier in PEM."""
    return {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": text(signature), "verifier": text(verifier)}],
        },
    }


def hashedrekord_body(signature: bytes, verifier: bytes, message: bytes) -> dict[str, Any]:
    """An entry `hashedrekord` 0.0.1; the verifier in PEM."""
    return {
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(message).hexdigest()}},
            "signature": {"content": text(signature), "publicKey": {"content": text(verifier)}},
        },
    }


def hashedrekord_body_v2(signature: bytes, certificate: bytes, message: bytes) -> dict[str, Any]:
    """An entry `hashedrekord` 0.0.2; the certificate in DER."""
    verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": text(certificate)}}
    data = {"algorithm": "SHA2_256", "digest": text(hashlib.sha256(message).digest())}
    record = {"data": data, "signature": {"content": text(signature), "verifier": verifier}}
    return {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": record}}


def certified_bundle(
    leaf: Leaf,
    payload: bytes,
    signature: bytes,
    entries: Sequence[dict[str, Any]],
    *,
    media_type: str = "application/vnd.dev.sigstore.bundle.v0.3+json",
    **material: Any,
) -> bytes:
    """A bundle with these log entries; `material` replaces members of the verification material."""
    return json.dumps(
        {
            "mediaType": media_type,
            "verificationMaterial": {
                "certificate": {"rawBytes": text(leaf.der)},
                "tlogEntries": list(entries),
                **material,
            },
            "dsseEnvelope": {
                "payload": text(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": text(signature)}],
            },
        }
    ).encode()


def _entry(log_id: bytes, body: Any, version: str) -> dict[str, Any]:
    kind = body["kind"] if isinstance(body, dict) else ""
    return {
        "logIndex": "7",
        "logId": {"keyId": text(log_id)},
        "kindVersion": {"kind": kind, "version": version},
        "canonicalizedBody": text(_json(body)),
    }


def _proof(key: Any, body: bytes) -> dict[str, Any]:
    tree = MerkleTree()
    for one in (b"first", body, b"last"):
        tree.append(one)
    note = f"log.example\n{tree.size}\n{text(tree.root())}\n"
    signature = text(key_id(key)[:4] + sign(key, note.encode()))
    return {
        "logIndex": "1",
        "treeSize": str(tree.size),
        "rootHash": text(tree.root()),
        "hashes": [text(one) for one in tree.proof(1)],
        "checkpoint": {"envelope": f"{note}\n\N{EM DASH} log.example {signature}\n"},
    }


def embedded_sct(before: bytes, issuer_key: Key, ct_key: Key, at: datetime) -> bytes:
    milliseconds = int(at.timestamp()) * 1000 + 123
    entry = hashlib.sha256(spki(issuer_key)).digest() + len(before).to_bytes(3, "big") + before
    signature = sign(ct_key, struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + b"\x00\x00")
    sct = struct.pack("!B32sQH", 0, key_id(ct_key), milliseconds, 0)
    sct += b"\x04\x03" + struct.pack("!H", len(signature)) + signature
    listed = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
    return b"\x04" + (b"\x81" if len(listed) >= 0x80 else b"") + bytes([len(listed)]) + listed


def _json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
