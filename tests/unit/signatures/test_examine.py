"""What one candidate comes to: a vouch, an attestation with its claims, or nothing."""

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from countersign.signatures.examine import (
    MAX_ATTESTATION_BYTES,
    Candidate,
    Examined,
    Question,
    cheap,
    examine,
    examine_packed,
    pack,
    unpack,
)
from countersign.signatures.keys import parse_public_key
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import Claim
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
    signed = (kind if signed_as is None else signed_as).encode()
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


def said(candidate: Candidate, **members: Any) -> Examined:
    """As a worker process says it."""
    return unpack(examine_packed(*pack(candidate, question(**members))))


FOREIGN = [
    [{"digest": {"sha256": "cd" * 32}}],
    [{"digest": {"sha512": "ab" * 32}}],
    [{"digest": {"SHA256": "ab" * 32}}],
    [{"digest": {"sha256": "AB" * 32}}],
    [{"digest": {"sha256": "sha256:" + "ab" * 32}}],
    [{"digest": {"sha256": "ab" * 31}}],
    [{"digest": {"": "ab" * 32}}],
    [{"name": DIGEST, "digest": {}}],
    [{"name": DIGEST}],
    [],
    None,
    [{"digest": None}],
    [{"digest": {"sha256": ["ab" * 32]}}],
    {"digest": {"sha256": "ab" * 32}},
]


@pytest.mark.parametrize("subject", FOREIGN)
@pytest.mark.parametrize("form", ["bundle", "dsse"])
@pytest.mark.parametrize("kind", [SLSA, SIGN])
def test_a_statement_about_another_artefact_counts_for_nothing(form: str, kind: str, subject: Any) -> None:
    found = said(attestation(form, statement(DIGEST, kind, subject=subject)), predicates={SLSA: (), SIGN: ()})
    assert (found.vouches, found.attestations) == ((), ())
    assert found.problem.startswith(("OtherDigest", "Malformed"))


def test_a_statement_about_several_artefacts_is_about_each() -> None:
    subjects = [{"digest": {"sha1": "00", "gitCommit": "11"}}, {"digest": {"sha256": "ab" * 32, "sha512": "22"}}, {}]
    assert len(said(attestation("dsse", statement(DIGEST, SLSA, subject=subjects))).attestations) == 1


@pytest.mark.parametrize(
    "kind",
    [SLSA + "/", SLSA.upper(), " " + SLSA, SLSA + "\u200b", "https://slsa.dev/provenance/v0.2", "", SLSA + "#x"],
)
def test_a_type_that_only_looks_alike_is_another_type(kind: str) -> None:
    assert said(attestation("dsse", statement(DIGEST, kind))).attestations == ()


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v0.2", "https://in-toto.io/Link/v1", "", None, 1])
def test_only_statements_of_the_two_known_versions_are_read(kind: Any) -> None:
    found = said(attestation("dsse", statement(DIGEST, SLSA, _type=kind)))
    assert found.attestations == ()
    assert found.problem.startswith(("OtherType", "Malformed"))


def test_no_statement_of_the_older_version_and_no_attestation_says_that_the_image_is_signed() -> None:
    assert said(attestation("bundle", statement(DIGEST, SIGN, _type=STATEMENT_V01))).vouches == ()
    assert said(attestation("bundle", statement(DIGEST, SLSA))).vouches == ()


def test_an_envelope_by_nobody_known_counts_for_nothing_whatever_it_says() -> None:
    for form in ("bundle", "dsse"):
        assert said(attestation(form, statement(DIGEST, SLSA), OTHER)).problem.startswith("NoKeyMatches")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/vnd.in-toto+json ", "Application/vnd.in-toto+JSON"])
def test_a_signed_payload_of_another_type_is_no_statement(kind: str) -> None:
    found = said(Candidate(form="dsse", data=envelope(KEY, statement(DIGEST, SLSA), kind)))
    assert (found.attestations, found.problem[:9]) == ((), "OtherType")


@pytest.mark.parametrize("signed_as", ["text/plain", "", "application/vnd.in-toto+json 2"])
def test_the_payloads_type_is_signed_with_it(signed_as: str) -> None:
    data = envelope(KEY, statement(DIGEST, SLSA), IN_TOTO, signed_as)
    assert said(Candidate(form="dsse", data=data)).problem.startswith("NoKeyMatches")


def test_a_payload_cannot_lend_bytes_to_its_type() -> None:
    """The lengths in the pre-authentication encoding: `DSSEv1 28 TYPE 4 BODY` is no other type with another body."""
    payload = statement(DIGEST, SLSA)
    text = b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
    forged = {
        "payloadType": IN_TOTO + f" {len(payload)} " + payload.decode()[:5],
        "payload": base64.b64encode(payload[5:]).decode(),
        "signatures": [{"sig": sign(KEY, text)}],
    }
    assert said(Candidate(form="dsse", data=json.dumps(forged).encode())).problem.startswith("NoKeyMatches")


def test_an_envelope_with_two_payloads_or_types_is_refused() -> None:
    good = envelope(KEY, statement(DIGEST, SLSA)).decode()
    for member in ("payload", "payloadType", "signatures"):
        twice = good[:-1] + f', "{member}": ' + json.dumps(json.loads(good)[member]) + "}"
        assert said(Candidate(form="dsse", data=twice.encode())).problem.startswith("Malformed")


def test_each_signer_of_an_envelope_has_attested_and_a_stranger_among_them_harms_nothing() -> None:
    payload = statement(DIGEST, SLSA)
    one, other = (json.loads(envelope(key, payload)) for key in (KEY, OTHER))
    one["signatures"] += [{"sig": "AAAA"}, *other["signatures"]]
    data = json.dumps(one).encode()
    assert [one.vouch.key_fingerprint for one in said(Candidate(form="dsse", data=data)).attestations] == [FINGERPRINT]
    both = said(Candidate(form="dsse", data=data), keys=(pem_of(KEY), pem_of(OTHER))).attestations
    assert len({one.vouch.key_fingerprint for one in both}) == 2
    assert len({one.statement for one in both}) == 1


@pytest.mark.parametrize(
    "payload",
    [
        statement(DIGEST, SLSA)[:-1] + b', "predicateType": "https://spdx.dev/Document"}',
        statement(DIGEST, SLSA)[:-1] + b', "subject": []}',
        statement(DIGEST, SLSA)[:-1] + b', "predicate": {"a": {"b": 1, "b": 2}}}',
        statement(DIGEST, SLSA)[:-1] + b', "x": NaN}',
        statement(DIGEST, SLSA)[:-1] + b', "x": "\\ud800"}',
        statement(DIGEST, SLSA)[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        statement(DIGEST, SLSA)[:-1] + b', "x": ' + b"9" * 5000 + b"}",
        statement(DIGEST, SLSA) + b"{}",
        b"\xef\xbb\xbf" + statement(DIGEST, SLSA),
        statement(DIGEST, SLSA).decode().encode("utf-16"),
        gzip.compress(statement(DIGEST, SLSA)),
        statement(DIGEST, SLSA)[:-1] + b', "x": [' + b"0," * 4_000_000 + b"0]}",
        b"",
        b"null",
        b"[]",
    ],
    ids=range(15),
)
def test_signed_bytes_with_no_one_meaning_are_no_statement(payload: bytes) -> None:
    found = said(attestation("dsse", payload))
    assert (found.attestations, found.problem[:9]) == ((), "Malformed")


def test_nothing_is_unpacked() -> None:
    for packed in (gzip.compress(bytes(100_000_000)), zlib.compress(envelope(KEY, statement(DIGEST, SLSA)))):
        for form in ("bundle", "dsse", "simple-signing"):
            assert said(Candidate(form=form, data=packed)).problem


def test_what_is_larger_than_the_limit_is_not_read() -> None:
    found = examine(Candidate(form="dsse", data=bytes(MAX_ATTESTATION_BYTES + 1)), question())
    assert "larger than" in found.problem


def test_conditions_are_claims_by_their_name_and_by_the_type_that_they_are_about() -> None:
    conditions = ("predicate.critical == 0", "predicate.critical == 3", "predicate.none")
    payload = statement(DIGEST, SLSA, predicate={"critical": 3})
    asked = {SLSA: conditions, "https://spdx.dev/Document": ("true",)}
    (one,) = said(attestation("dsse", payload), predicates=asked).attestations
    assert one.claims == (
        Claim(condition_name(SLSA, conditions[0]), False, "predicate.critical = 3"),
        Claim(condition_name(SLSA, conditions[1]), True),
        Claim(condition_name(SLSA, conditions[2]), False, 'predicate has no "none"'),
    )


def test_conditions_see_the_statement_and_what_the_image_is_called() -> None:
    condition = (
        "statement.predicateType == 'https://slsa.dev/provenance/v1' && statement.extra == 1 && predicate == 'text'"
        f" && subject.name == 'registry.example.com/app' && subject.digest == '{DIGEST}'"
    )
    payload = statement(DIGEST, SLSA, predicate="text", extra=1)
    (one,) = said(
        attestation("dsse", payload), predicates={SLSA: (condition,)}, name="registry.example.com/app"
    ).attestations
    assert one.claims == (Claim(condition_name(SLSA, condition), True),)


def test_a_statement_without_predicate_has_an_empty_one() -> None:
    payload = json.loads(statement(DIGEST, SLSA))
    del payload["predicate"]
    (one,) = said(
        attestation("dsse", json.dumps(payload).encode()), predicates={SLSA: ("predicate == null",)}
    ).attestations
    assert one.claims[0].holds


def test_no_condition_is_evaluated_in_the_process_that_asks() -> None:
    (one,) = examine(attestation("dsse", statement(DIGEST, SLSA)), question(predicates={SLSA: ("true",)})).attestations
    assert one.claims == (Claim(condition_name(SLSA, "true"), False, "conditions are not evaluated here"),)
