"""What a log entry is about: each kind must name this signature, this signer and this content, or it is another's."""

import hashlib
import json
from typing import Any

import pytest

from countersign.signatures.errors import SignatureError
from countersign.signatures.witnesses.log_bodies import Signed, is_v2, judge_body
from tests.fakes.sigstore import (
    FakeSigstore,
    dsse_body,
    encoding,
    hashedrekord_body,
    hashedrekord_body_v2,
    sign,
    text,
)

LEAF = FakeSigstore().leaf()
OTHER = FakeSigstore().leaf()
PAYLOAD = b"{}"
BLOB = Signed(b"blob", sign(LEAF.key, b"blob"), verifier=LEAF.der)
ENVELOPE = Signed(encoding(PAYLOAD), sign(LEAF.key, encoding(PAYLOAD)), PAYLOAD, b"the whole", LEAF.der)
VERIFIER_V2 = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": text(LEAF.der)}}


def _sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _intoto(version: str, content: dict[str, Any], **spec: Any) -> dict[str, Any]:
    content = {"payloadHash": _sha256(PAYLOAD), **content}
    return {"apiVersion": version, "kind": "intoto", "spec": {"content": content, **spec}}


BODIES: dict[str, tuple[Any, Signed]] = {
    "hashedrekord 0.0.1": (hashedrekord_body(BLOB.signature, LEAF.pem, BLOB.message), BLOB),
    "dsse 0.0.1": (dsse_body(ENVELOPE.signature, LEAF.pem, PAYLOAD), ENVELOPE),
    "intoto 0.0.1": (_intoto("0.0.1", {"hash": _sha256(b"the whole")}, publicKey=text(LEAF.pem)), ENVELOPE),
    "intoto 0.0.2": (
        _intoto(
            "0.0.2",
            {
                "envelope": {
                    "payloadType": "application/vnd.in-toto+json",
                    "signatures": [{"sig": text(text(ENVELOPE.signature).encode()), "publicKey": text(LEAF.pem)}],
                }
            },
        ),
        ENVELOPE,
    ),
    "hashedrekord 0.0.2": (hashedrekord_body_v2(BLOB.signature, LEAF.der, BLOB.message), BLOB),
    "hashedrekord 0.0.2 of an envelope": (
        hashedrekord_body_v2(ENVELOPE.signature, LEAF.der, ENVELOPE.message),
        ENVELOPE,
    ),
    "dsse 0.0.2": (
        {
            "apiVersion": "0.0.2",
            "kind": "dsse",
            "spec": {
                "dsseV002": {
                    "payloadHash": {"algorithm": "SHA2_256", "digest": text(hashlib.sha256(PAYLOAD).digest())},
                    "signatures": [{"content": text(ENVELOPE.signature), "verifier": VERIFIER_V2}],
                }
            },
        },
        ENVELOPE,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_an_entry_is_about_the_signature_that_it_names(name: str) -> None:
    body, signed = BODIES[name]
    data = json.dumps(body).encode()
    kind, version = name.split()[:2]
    judge_body(data, kind, version, signed)
    judge_body(data, "", "", signed)
    assert is_v2(data) is (name != "intoto 0.0.2" and version == "0.0.2")


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(
    "other",
    [
        {"signature": b"another", "document": b"another"},
        {"verifier": OTHER.der},
        {"verifier": b""},
        {"message": b"another", "payload": b"another"},
    ],
)
def test_an_entry_with_another_signature_signer_or_content_is_another_entry(name: str, other: dict[str, Any]) -> None:
    body, signed = BODIES[name]
    other = {key: value for key, value in other.items() if key != "payload" or signed.payload is not None}
    with pytest.raises(SignatureError) as refusal:
        judge_body(json.dumps(body).encode(), "", "", signed._replace(**other))
    assert refusal.value.problem == "Untrusted"


@pytest.mark.parametrize("name", BODIES)
def test_an_entry_of_a_kind_and_version_that_is_not_known_is_about_nothing(name: str) -> None:
    body, signed = BODIES[name]
    for change in ({"kind": "rekord"}, {"apiVersion": "0.0.3"}):
        with pytest.raises(SignatureError):
            judge_body(json.dumps(body | change).encode(), "", "", signed)


def test_an_envelope_by_its_hash_alone_is_about_nobody_who_has_not_its_bytes() -> None:
    body, signed = BODIES["intoto 0.0.1"]
    with pytest.raises(SignatureError):
        judge_body(json.dumps(body).encode(), "", "", signed._replace(document=None))


def test_a_hash_that_is_not_known_is_no_digest() -> None:
    body, signed = BODIES["hashedrekord 0.0.1"]
    digest = {"algorithm": "md5", "value": hashlib.new("md5", signed.message, usedforsecurity=False).hexdigest()}
    body = body | {"spec": body["spec"] | {"data": {"hash": digest}}}
    with pytest.raises(SignatureError, match="another signature"):
        judge_body(json.dumps(body).encode(), "", "", signed)
