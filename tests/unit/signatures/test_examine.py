"""What one candidate comes to: a vouch, an attestation with its claims, or nothing."""

import base64
import json
from typing import Any

import pytest

from countersign.signatures.examine import Candidate, Examined, Question, cheap, examine, examine_packed, pack, unpack
from countersign.signatures.keys import parse_public_key
from tests.fakes.signing import PrivateKey, bundle, classic_payload, make_key, pem_of, sign, statement

KEY, OTHER = make_key(), make_key()
DIGEST = "sha256:" + "ab" * 32
SLSA = "https://slsa.dev/provenance/v1"
SIGN = "https://sigstore.dev/cosign/sign/v1"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT_V01 = "https://in-toto.io/Statement/v0.1"
FINGERPRINT = parse_public_key(pem_of(KEY)).fingerprint


def question(**members: Any) -> Question:
    return Question(**{"digest": DIGEST, "keys": (pem_of(KEY),), "predicates": {SLSA: ()}, **members})


def envelope(key: PrivateKey, payload: bytes, kind: str = IN_TOTO, signed_as: str | None = None) -> bytes:
    signed = (signed_as or kind).encode()
    message = b"DSSEv1 %d %s %d %s" % (len(signed), signed, len(payload), payload)
    return json.dumps(
        {
            "payloadType": kind,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": "", "sig": sign(key, message)}],
        }
    ).encode()


def attestation(form: str, payload: bytes, key: PrivateKey = KEY) -> Candidate:
    if form == "bundle":
        return Candidate(form="bundle", data=bundle(key, payload))
    return Candidate(form="dsse", data=envelope(key, payload))


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v1", STATEMENT_V01])
@pytest.mark.parametrize("form", ["bundle", "dsse"])
def test_a_statement_of_a_type_that_is_asked_about_is_an_attestation_by_its_signer(form: str, kind: str) -> None:
    found = examine(attestation(form, statement(DIGEST, SLSA, _type=kind)), question())
    assert found.problem == ""
    assert found.vouches == ()
    (one,) = found.attestations
    assert (one.predicate_type, one.vouch.key_fingerprint, one.claims) == (SLSA, FINGERPRINT, ())
    assert one.statement.startswith("sha256:")


def test_a_statement_that_the_image_is_signed_vouches_and_is_no_attestation() -> None:
    found = examine(attestation("bundle", statement(DIGEST)), question())
    assert [vouch.key_fingerprint for vouch in found.vouches] == [FINGERPRINT]
    assert found.attestations == ()


def test_a_classic_payload_vouches_with_the_reference_that_it_claims() -> None:
    payload = classic_payload(DIGEST)
    signed = {"dev.cosignproject.cosign/signature": sign(KEY, payload)}
    found = examine(Candidate(form="simple-signing", data=payload, annotations=signed), question())
    assert [(vouch.format, vouch.reference) for vouch in found.vouches] == [("classic", "registry.example.com/app")]


def test_what_nobody_asks_about_counts_for_nothing() -> None:
    found = examine(attestation("bundle", statement(DIGEST, "https://spdx.dev/Document")), question())
    assert (found.vouches, found.attestations) == ((), ())
    assert "nobody asks about" in found.problem


def test_the_answer_of_a_worker_is_the_answer() -> None:
    candidate = attestation("dsse", statement(DIGEST, SLSA))
    assert unpack(examine_packed(*pack(candidate, question()))) == examine(candidate, question()) != Examined()


def test_only_what_takes_no_time_may_be_judged_on_the_loop() -> None:
    candidate = attestation("dsse", statement(DIGEST, SLSA))
    assert cheap(candidate, question())
    assert not cheap(candidate, question(predicates={SLSA: ("true",)}))
    assert not cheap(candidate, question(roots=(b"{}",)))
    assert not cheap(candidate, question(keys=(pem_of(KEY),) * 5))
    assert not cheap(Candidate(form="dsse", data=bytes(65537)), question())
