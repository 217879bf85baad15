"""A Rekor v1 log: the one request that cosign makes of it, over a real Merkle tree with real signatures.

Rekor v1's own server wants Trillian and a database. Entries, entry timestamps and checkpoints are as sigstore/rekor
writes them: pkg/types/{hashedrekord,dsse}/v0.0.1/entry.go, pkg/api/entries.go (signEntry), pkg/util/checkpoint.go.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from tests.lab.sigstore.keys import public_der, write_public
from tests.lab.sigstore.merkle import MerkleTree, leaf_hash
from tests.lab.sigstore.web import Reply, Request, WebServer

_PATH = "/api/v1/log/entries"
_TREE_ID = 1193050959916656506
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class RekorV1:
    """Takes `hashedrekord` and `dsse` entries, version 0.0.1. Tests may forge by `key`."""

    def __init__(self, folder: Path, hostname: str = "rekor-v1.local") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.public_key_file = write_public(folder / "rekor-v1.pub", self.key.public_key())
        self._hostname = hostname
        self._id = hashlib.sha256(public_der(self.key.public_key())).digest()
        self._tree = MerkleTree()
        self._lock = threading.Lock()
        # A proof in a tree of one entry has no hashes, and sigstore-python takes none for absent.
        self._tree.append(b"first")
        self._server = WebServer(self._answer)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def _answer(self, request: Request) -> Reply:
        if (request.method, request.path) != ("POST", _PATH):
            return Reply(404, {"code": 404, "message": f"no {request.method} {request.path} here"})
        entry = _canonical(json.loads(request.body))
        with self._lock:
            name, body = self._append(entry)
        return Reply(201, {name: body}, {"ETag": name, "Location": f"{_PATH}/{name}"})

    def _append(self, entry: bytes) -> tuple[str, dict[str, Any]]:
        index = self._tree.append(entry)
        promised = {
            "body": base64.b64encode(entry).decode(),
            "integratedTime": int(time.time()),
            "logID": self._id.hex(),
            "logIndex": index,
        }
        proof = {
            "checkpoint": self._checkpoint(),
            "hashes": [one.hex() for one in self._tree.proof(index)],
            "logIndex": index,
            "rootHash": self._tree.root().hex(),
            "treeSize": self._tree.size,
        }
        promise = self._sign(_json(promised))
        verification = {"inclusionProof": proof, "signedEntryTimestamp": base64.b64encode(promise).decode()}
        return f"{_TREE_ID:016x}{leaf_hash(entry).hex()}", {**promised, "verification": verification}

    def _checkpoint(self) -> str:
        """A signed note (golang.org/x/mod/sumdb/note): origin, size and root, and a signature with the key's hint."""
        root = base64.b64encode(self._tree.root()).decode()
        text = f"{self._hostname} - {_TREE_ID}\n{self._tree.size}\n{root}\n"
        signature = base64.b64encode(self._id[:4] + self._sign(text.encode())).decode()
        return f"{text}\n\N{EM DASH} {self._hostname} {signature}\n"

    def _sign(self, data: bytes) -> bytes:
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


def _canonical(proposed: dict[str, Any]) -> bytes:
    """The entry as the log keeps it. Raises ValueError or TypeError unless its signature holds."""
    kind, version = proposed["kind"], proposed["apiVersion"]
    if version != "0.0.1" or kind not in ("hashedrekord", "dsse"):
        raise ValueError(f"no entries of type {kind} {version} here")
    spec = _hashedrekord(proposed["spec"]) if kind == "hashedrekord" else _dsse(proposed["spec"])
    return _json({"apiVersion": version, "kind": kind, "spec": spec})


def _hashedrekord(spec: dict[str, Any]) -> dict[str, Any]:
    algorithm, digest = spec["data"]["hash"]["algorithm"], spec["data"]["hash"]["value"]
    content, verifier = spec["signature"]["content"], spec["signature"]["publicKey"]["content"]
    hashed = utils.Prehashed(_HASHES[algorithm]())
    _check(base64.b64decode(verifier), base64.b64decode(content), bytes.fromhex(digest), hashed)
    return {
        "data": {"hash": {"algorithm": algorithm, "value": digest}},
        "signature": {"content": content, "publicKey": {"content": verifier}},
    }


def _dsse(spec: dict[str, Any]) -> dict[str, Any]:
    text: str = spec["proposedContent"]["envelope"]
    (verifier,) = spec["proposedContent"]["verifiers"]
    envelope = json.loads(text)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signatures = sorted(one["sig"] for one in envelope["signatures"])
    for one in signatures:
        _check(base64.b64decode(verifier), base64.b64decode(one), encoded, hashes.SHA256())
    return {
        "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(text.encode()).hexdigest()},
        "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
        "signatures": [{"signature": one, "verifier": verifier} for one in signatures],
    }


def _check(verifier: bytes, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm | utils.Prehashed) -> None:
    key = _public_key(verifier)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey) and not isinstance(algorithm, utils.Prehashed):
            key.verify(signature, data)
        else:
            raise TypeError(f"no signatures by a {type(key).__name__} here")
    except InvalidSignature:
        raise ValueError("the signature does not hold") from None


def _public_key(verifier: bytes) -> PublicKeyTypes:
    if b"BEGIN CERTIFICATE" in verifier:
        return x509.load_pem_x509_certificate(verifier).public_key()
    return serialization.load_pem_public_key(verifier)


def _json(value: dict[str, Any]) -> bytes:
    """Canonical JSON (RFC 8785) of a value that holds ASCII strings and integers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
