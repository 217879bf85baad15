"""Signatures in cosign's two formats, made by hand so that any part of them can be made wrong."""

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(key: PrivateKey, message: bytes, algorithm: hashes.HashAlgorithm | None = None) -> str:
    """The signature as base64 text, with cosign's algorithm for the key unless another is asked for."""
    algorithm = algorithm or hashes.SHA256()
    match key:
        case ec.EllipticCurvePrivateKey():
            raw = key.sign(message, ec.ECDSA(algorithm))
        case rsa.RSAPrivateKey():
            raw = key.sign(message, padding.PKCS1v15(), algorithm)
        case _:
            raw = key.sign(message)
    return base64.b64encode(raw).decode()


def classic_payload(digest: str, reference: str = "registry.example.com/app", **critical: Any) -> bytes:
    return json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
                **critical,
            },
            "optional": None,
        }
    ).encode()


def statement(digest: str, predicate_type: str = "https://sigstore.dev/cosign/sign/v1", **members: Any) -> bytes:
    algorithm, _, encoded = digest.partition(":")
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: encoded}}],
            "predicateType": predicate_type,
            "predicate": {},
            **members,
        }
    ).encode()


def bundle(key: PrivateKey, payload: bytes, **members: Any) -> bytes:
    """A v0.3 bundle over the payload; `members` replace the bundle's own."""
    kind = "application/vnd.in-toto+json"
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": base64.b64encode(hashlib.sha256(spki).digest()).decode()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": kind,
                "signatures": [{"sig": sign(key, message)}],
            },
            **members,
        }
    ).encode()
