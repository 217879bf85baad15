"""Public keys of the lab's Sigstore."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def public_der(key: PublicKeyTypes) -> bytes:
    """The key as SubjectPublicKeyInfo, over which log ids and issuer ids are hashed."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_public(path: Path, key: PublicKeyTypes) -> Path:
    """Write the key as PEM."""
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path
