"""A certificate transparency log that signs: RFC 6962 sections 3.2 and 4.2, as Fulcio's `--ct-log-url` wants it."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.lab.sigstore.keys import public_der, write_public
from tests.lab.sigstore.web import Reply, Request, WebServer

# OID 1.3.6.1.4.1.11129.2.4.3, RFC 6962 section 3.1, in DER.
_POISON = bytes.fromhex("060a2b06010401d679020403")
_SEQUENCE = 0x30
_EXTENSIONS = 0xA3
_SHA256_ECDSA = b"\x04\x03"


class CtLog:
    """Answers `add-pre-chain` with a signed certificate timestamp. It keeps no tree: nobody asks a lab's for proofs."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.public_key_file = write_public(folder / "ctlog.pub", self.key.public_key())
        self._server = WebServer(self._answer)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def timestamp(self, precertificate: x509.Certificate, issuer: x509.Certificate) -> dict[str, object]:
        """The answer to `add-pre-chain` for this precertificate."""
        milliseconds = int(time.time() * 1000)
        entry = without_poison(precertificate.tbs_certificate_bytes)
        signed = b"".join(
            (
                struct.pack("!BBQH", 0, 0, milliseconds, 1),  # v1, certificate_timestamp, time, precert_entry
                hashlib.sha256(public_der(issuer.public_key())).digest(),
                len(entry).to_bytes(3),
                entry,
                struct.pack("!H", 0),  # no extensions
            )
        )
        signature = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return {
            "sct_version": 0,
            "id": base64.b64encode(hashlib.sha256(public_der(self.key.public_key())).digest()).decode(),
            "timestamp": milliseconds,
            "extensions": "",
            "signature": base64.b64encode(_SHA256_ECDSA + struct.pack("!H", len(signature)) + signature).decode(),
        }

    def _answer(self, request: Request) -> Reply:
        if request.path != "/ct/v1/add-pre-chain":
            return Reply(404, {"error_message": f"no {request.path} here"})
        chain = [x509.load_der_x509_certificate(base64.b64decode(one)) for one in json.loads(request.body)["chain"]]
        precertificate, issuer, *_ = chain
        precertificate.verify_directly_issued_by(issuer)
        return Reply(200, self.timestamp(precertificate, issuer))


def without_poison(tbs: bytes) -> bytes:
    """A precertificate's TBSCertificate (DER) as the final one will have it, but for the timestamps.

    Raises ValueError when it has no poison extension.
    """
    (_, body, _), *_ = _elements(tbs)
    parts = []
    found = False
    for tag, content, whole in _elements(body):
        if tag != _EXTENSIONS:
            parts.append(whole)
            continue
        (_, listed, _), *_ = _elements(content)
        kept = [one for _, extension, one in _elements(listed) if not extension.startswith(_POISON)]
        found = len(kept) < len(list(_elements(listed)))
        parts.append(_element(_EXTENSIONS, _element(_SEQUENCE, b"".join(kept))))
    if not found:
        raise ValueError("not a precertificate: it has no poison extension")
    return _element(_SEQUENCE, b"".join(parts))


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(tag, content, tag with length and content) of each DER element in a row."""
    at = 0
    while at < len(data):
        length, head = data[at + 1], at + 2
        if length & 0x80:
            head += length & 0x7F
            length = int.from_bytes(data[at + 2 : head])
        yield data[at], data[head : head + length], data[at : head + length]
        at = head + length


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(octets))) + octets + content
