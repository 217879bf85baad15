"""Keyless signatures under attack: each row is one thing wrong, and what then still counts."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from countersign.signatures.errors import SignatureError
from countersign.signatures.keys import parse_public_key
from countersign.signatures.roots.trust_root import TrustRoot, parse_trust_root
from countersign.signatures.signers import open_bundle, open_envelope, open_payload
from countersign.trust.evidence.facts import Vouch
from tests.fakes.conformance import signers_of, vectors
from tests.fakes.signing import bundle as keyed_bundle
from tests.fakes.signing import make_key, pem_of
from tests.fakes.sigstore import (
    FULCIO,
    ISSUER,
    NOW,
    PAYLOAD_TYPE,
    SCT_LIST,
    SUBJECT,
    FakeSigstore,
    Leaf,
    certified_bundle,
    dsse_body,
    embedded_sct,
    encoding,
    hashedrekord_body,
    hashedrekord_body_v2,
    key_id,
    sign,
    spki,
    text,
    utf8,
)

SIGSTORE = FakeSigstore()
ROOT = parse_trust_root(SIGSTORE.trusted_root())
PAYLOAD = b'{"_type": "https://in-toto.io/Statement/v1"}'
LEAF = SIGSTORE.leaf()
SIGNATURE = sign(LEAF.key, encoding(PAYLOAD))
BODY = dsse_body(SIGNATURE, LEAF.pem, PAYLOAD)
BODY_V2 = hashedrekord_body_v2(SIGNATURE, LEAF.der, encoding(PAYLOAD))
ENTRY = SIGSTORE.entry_v1(BODY)


def _bundle(*entries: dict[str, Any], leaf: Leaf = LEAF, **more: Any) -> bytes:
    signature = SIGNATURE if leaf is LEAF else sign(leaf.key, encoding(PAYLOAD))
    return certified_bundle(leaf, PAYLOAD, signature, entries, **more)


def _logged(leaf: Leaf, **more: Any) -> bytes:
    """A bundle by this certificate that is in order but for the certificate."""
    signature = sign(leaf.key, encoding(PAYLOAD))
    entry = SIGSTORE.entry_v1(dsse_body(signature, leaf.pem, PAYLOAD))
    return certified_bundle(leaf, PAYLOAD, signature, [entry], **more)


def _vouch(bundle: bytes, root: TrustRoot = ROOT) -> Vouch:
    (vouch,) = open_bundle(bundle, (), (root,)).vouches
    return vouch


def _kinds(bundle: bytes) -> set[str]:
    proof = _vouch(bundle).proof
    assert proof is not None
    return set(proof.kinds)


def _refused(bundle: bytes, problem: str, says: str, root: TrustRoot = ROOT) -> None:
    with pytest.raises(SignatureError, match=says) as refusal:
        open_bundle(bundle, (), (root,))
    assert refusal.value.problem == problem


def test_what_is_in_order_vouches() -> None:
    vouch = _vouch(_bundle(ENTRY))
    assert vouch.identity is not None
    assert (vouch.identity.issuer, vouch.identity.subject) == (ISSUER, SUBJECT)
    assert vouch.proof is not None
    assert set(vouch.proof.kinds) == {"log", "sct"}
    assert vouch.proof.signed_at == int(NOW.timestamp())
    names = [one.partition(":")[0] for one in vouch.proof.anchors]
    assert names == ["ca", "ca", "ct", "log"]


# Time


def test_an_expired_certificate_without_a_trusted_time_does_not_vouch() -> None:
    _refused(_bundle(), "Untrusted", "no trusted time")


def test_a_log_of_the_second_generation_gives_no_time() -> None:
    _refused(_bundle(SIGSTORE.entry_v2(BODY_V2)), "Untrusted", "no trusted time")
    assert _kinds(_bundle(SIGSTORE.entry_v2(BODY_V2), ENTRY)) == {"log", "sct"}


@pytest.mark.parametrize("at", [NOW - timedelta(minutes=2), NOW + timedelta(minutes=10)])
def test_a_trusted_time_outside_the_certificates_life_refuses_it_whatever_else_is_there(at: Any) -> None:
    _refused(_bundle(SIGSTORE.entry_v1(BODY, at=at)), "Untrusted", "outside the certificate's life")
    _refused(_bundle(ENTRY, SIGSTORE.entry_v1(BODY, at=at)), "Untrusted", "outside the certificate's life")


def test_the_earliest_of_several_trusted_times_counts() -> None:
    later = SIGSTORE.entry_v1(BODY, at=NOW + timedelta(minutes=5))
    proof = _vouch(_bundle(later, ENTRY)).proof
    assert proof is not None
    assert proof.signed_at == int(NOW.timestamp())


def test_an_integrated_time_that_nobody_promised_is_none() -> None:
    _refused(_bundle(ENTRY | {"inclusionPromise": None}), "Untrusted", "no trusted time")


def test_an_integrated_time_that_was_changed_is_not_believed() -> None:
    entry = ENTRY | {"integratedTime": str(int(NOW.timestamp()) + 60)}
    _refused(_bundle(entry), "Untrusted", "promise")


@pytest.mark.parametrize("value", ["0", "-1", "99999999999999999999", "1e9", 1.5, None, [], "٣"])
def test_a_time_that_cannot_be_is_no_time(value: Any) -> None:
    _refused(_bundle(ENTRY | {"integratedTime": value}), "Untrusted", "no trusted time")


# The log entry


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (SIGSTORE.entry_v1(BODY, proven=b"another entry"), "inclusion proof"),
        (SIGSTORE.entry_v1(BODY, promised=b"another entry"), "promise"),
        (SIGSTORE.entry_v1(dsse_body(b"another", LEAF.pem, PAYLOAD)), "another signature"),
        (SIGSTORE.entry_v1(dsse_body(SIGNATURE, SIGSTORE.leaf().pem, PAYLOAD)), "another signature"),
        (SIGSTORE.entry_v1(dsse_body(SIGNATURE, b"?", PAYLOAD)), "another signature"),
        (SIGSTORE.entry_v1(dsse_body(SIGNATURE, LEAF.pem, b"another")), "another signature"),
        (SIGSTORE.entry_v1(hashedrekord_body(SIGNATURE, LEAF.pem, encoding(PAYLOAD))), "another signature"),
        (SIGSTORE.entry_v1(BODY | {"kind": "rekord"}), "another signature"),
        (SIGSTORE.entry_v1(BODY | {"spec": {}}), "cannot be read"),
        (ENTRY | {"kindVersion": {"kind": "dsse", "version": "0.0.2"}}, "another kind"),
        (SIGSTORE.entry_v1(b"[" * 100_000), "cannot be read"),
        (SIGSTORE.entry_v1(b"{}"), "cannot be read"),
        (SIGSTORE.entry_v1(BODY, key=make_key()), "neither a timestamp nor a promised log entry"),
        (ENTRY | {"inclusionProof": None}, "no inclusion proof"),
        (ENTRY | {"logId": {"keyId": "?"}}, "not base64"),
        (ENTRY | {"canonicalizedBody": ""}, "promise"),
    ],
)
def test_an_entry_that_is_not_the_logs_word_about_this_signature_gives_no_time(
    entry: dict[str, Any], says: str
) -> None:
    _refused(_bundle(entry), "Untrusted", says)


@pytest.mark.parametrize("member", ["logIndex", "treeSize", "rootHash", "hashes", "checkpoint"])
def test_an_inclusion_proof_with_any_part_of_another_does_not_hold(member: str) -> None:
    another = {"logIndex": "0", "treeSize": "4", "rootHash": text(b"\x00" * 32), "hashes": [], "checkpoint": {}}
    proof = ENTRY["inclusionProof"] | {member: another[member]}
    _refused(_bundle(ENTRY | {"inclusionProof": proof}), "Untrusted", "no trusted time")


def test_a_bundle_made_older_still_needs_the_promise_and_gains_nothing() -> None:
    """v0.1 needs no inclusion proof: the promise alone is the log's word, as in cosign's classic form."""
    old = "application/vnd.dev.sigstore.bundle+json;version=0.1"
    promised = ENTRY | {"inclusionProof": None}
    assert _kinds(_bundle(promised, media_type=old)) == {"log", "sct"}
    _refused(_bundle(promised | {"inclusionPromise": None}, media_type=old), "Untrusted", "no inclusion proof")
    v2 = SIGSTORE.entry_v2(BODY_V2) | {"inclusionProof": None, "inclusionPromise": {"signedEntryTimestamp": ""}}
    _refused(_bundle(v2, media_type=old), "Untrusted", "no inclusion proof")


def test_an_entry_of_an_unknown_log_neither_helps_nor_harms() -> None:
    unknown = SIGSTORE.entry_v1(BODY, key=make_key())
    assert _vouch(_bundle(unknown, ENTRY)) == _vouch(_bundle(ENTRY))


def test_a_damaged_entry_beside_a_good_one_takes_nothing_away_and_is_told() -> None:
    damaged = SIGSTORE.entry_v1(BODY, proven=b"another entry")
    opened = open_bundle(_bundle(damaged, ENTRY), (), (ROOT,))
    assert opened.vouches == (_vouch(_bundle(ENTRY)),)
    assert len(opened.problems) == 1


def test_a_log_is_believed_within_its_interval_only() -> None:
    content = json.loads(SIGSTORE.trusted_root())
    content["tlogs"][0]["publicKey"]["validFor"]["end"] = f"{NOW - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    _refused(_bundle(ENTRY), "Untrusted", "log is not believed", parse_trust_root(json.dumps(content).encode()))


@pytest.mark.parametrize(("end", "counts"), [(NOW - timedelta(seconds=1), False), (NOW, True)])
def test_an_entry_without_a_time_counts_if_its_log_was_believed_when_the_signature_was_made(
    end: Any, counts: bool
) -> None:
    """The time comes from elsewhere, here from a log of the first generation."""
    content = json.loads(SIGSTORE.trusted_root())
    content["tlogs"][1]["publicKey"]["validFor"]["end"] = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    proof = _vouch(_bundle(SIGSTORE.entry_v2(BODY_V2), ENTRY), parse_trust_root(json.dumps(content).encode())).proof
    assert proof is not None
    assert (f"log:{key_id(SIGSTORE.v2_key).hex()}" in proof.anchors) is counts


def test_without_any_time_an_entry_counts_only_while_its_log_goes_on() -> None:
    key = make_key()
    bundle = json.loads(keyed_bundle(key, PAYLOAD))
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    body = hashedrekord_body_v2(signature, b"", encoding(PAYLOAD))
    body["spec"]["hashedRekordV002"]["signature"]["verifier"] = {"publicKey": {"rawBytes": text(spki(key))}}
    bundle["verificationMaterial"]["tlogEntries"] = [SIGSTORE.entry_v2(body)]
    content = json.loads(SIGSTORE.trusted_root())
    content["tlogs"][1]["publicKey"]["validFor"]["end"] = "2030-01-01T00:00:00Z"
    ended = parse_trust_root(json.dumps(content).encode())
    vouches = open_bundle(json.dumps(bundle).encode(), (parse_public_key(pem_of(key)),), (ROOT, ended)).vouches
    assert [(vouch.proof.root, vouch.proof.kinds, vouch.proof.signed_at) for vouch in vouches if vouch.proof] == [
        (ROOT.hash, ("log",), None)
    ]


# The certificate


@pytest.mark.parametrize(
    ("leaf", "says"),
    [
        (
            SIGSTORE.leaf(subjects=[x509.UniformResourceIdentifier(SUBJECT), x509.RFC822Name("dev@example.com")]),
            "2 subjects",
        ),
        (SIGSTORE.leaf(subjects=[x509.DNSName("example.com")]), "neither a mail address nor a URI"),
        (SIGSTORE.leaf(subjects=[x509.UniformResourceIdentifier("a\nb")]), "cannot be printed"),
        (SIGSTORE.leaf(subjects=[x509.UniformResourceIdentifier("")]), "empty"),
        (SIGSTORE.leaf(ca=True), "authority"),
        (SIGSTORE.leaf(usages=[ExtendedKeyUsageOID.CLIENT_AUTH]), "code signing"),
        (SIGSTORE.leaf(for_signatures=False), "not for signatures"),
        (SIGSTORE.leaf(usages=[]), "cannot be read"),
        (SIGSTORE.leaf(extensions={}), "no issuer"),
        (SIGSTORE.leaf(extensions={1: b"https://one.example", 8: utf8("https://other.example")}), "two issuers"),
        (SIGSTORE.leaf(extensions={8: ISSUER.encode()}), "UTF8String"),
        (SIGSTORE.leaf(extensions={8: utf8(ISSUER) + b"x"}), "bad length"),
        (SIGSTORE.leaf(extensions={8: b"\x0c\x84\x00\x00\x00\x01x"}), "bad length"),
        (SIGSTORE.leaf(extensions={1: b"\xff"}), "cannot be read"),
    ],
)
def test_a_certificate_that_is_no_signers_does_not_vouch(leaf: Leaf, says: str) -> None:
    with pytest.raises(SignatureError, match=says):
        open_bundle(_logged(leaf), (), (ROOT,))


def test_issuer_and_extensions_are_read_in_the_old_form_and_the_new() -> None:
    old = _vouch(_logged(SIGSTORE.leaf(extensions={1: ISSUER.encode(), 6: b"refs/heads/main"})))
    new = _vouch(_logged(SIGSTORE.leaf(extensions={8: utf8(ISSUER), 14: utf8("refs/heads/main"), 21: utf8("é" * 200)})))
    assert old.identity is not None
    assert new.identity is not None
    assert old.identity.issuer == new.identity.issuer == ISSUER
    assert old.identity.extensions == (("githubWorkflowRef", "refs/heads/main"),)
    assert new.identity.extensions == (("runInvocationURI", "é" * 200), ("sourceRepositoryRef", "refs/heads/main"))


@pytest.mark.parametrize(
    ("subject", "reads"),
    [
        (x509.RFC822Name("dev@example.com"), "dev@example.com"),
        (x509.OtherName(x509.ObjectIdentifier(f"{FULCIO}7"), utf8("dev!oidc.example")), "dev!oidc.example"),
        (x509.UniformResourceIdentifier("spiffe://example.com/ns/a"), "spiffe://example.com/ns/a"),
    ],
)
def test_a_subject_may_be_a_mail_address_a_user_name_or_a_uri(subject: x509.GeneralName, reads: str) -> None:
    vouch = _vouch(_logged(SIGSTORE.leaf(subjects=[subject])))
    assert vouch.identity is not None
    assert vouch.identity.subject == reads


def test_an_extension_that_no_policy_could_name_is_left_out() -> None:
    vouch = _vouch(_logged(SIGSTORE.leaf(extensions={8: utf8(ISSUER), 4: b"a\nb", 9: utf8("x" * 2000)})))
    assert vouch.identity is not None
    assert vouch.identity.extensions == ()


def test_another_authority_of_the_same_name_does_not_vouch() -> None:
    lookalike = FakeSigstore()
    leaf = SIGSTORE.leaf(issuer_key=lookalike.ca_key)
    assert leaf.certificate.issuer == LEAF.certificate.issuer
    chain = [{"rawBytes": text(one.public_bytes(Encoding.DER))} for one in (lookalike.ca, lookalike.root)]
    _refused(_logged(leaf), "Untrusted", "does not go back")
    smuggled = {"certificates": [{"rawBytes": text(leaf.der)}, *chain]}
    _refused(_logged(leaf, certificate=None, x509CertificateChain=smuggled), "Untrusted", "does not go back")


def test_an_intermediate_that_only_the_bundle_brings_does_not_vouch() -> None:
    """Not even one that the root's own authority has signed: the evidence root says it all about who may issue."""
    key = ec.generate_private_key(ec.SECP256R1())
    intermediate = SIGSTORE.authority("rogue", key, "root", SIGSTORE.root_key)
    leaf = SIGSTORE.leaf(issuer="rogue", issuer_key=key)
    chain = [{"rawBytes": text(leaf.der)}, {"rawBytes": text(intermediate.public_bytes(Encoding.DER))}]
    bundle = _logged(leaf, certificate=None, x509CertificateChain={"certificates": chain})
    _refused(bundle, "Untrusted", "does not go back")


def test_a_signers_certificate_issues_none() -> None:
    leaf = SIGSTORE.leaf(issuer="", issuer_key=LEAF.key)
    _refused(_logged(leaf), "Untrusted", "does not go back")


def test_an_authority_may_leave_out_key_identifiers() -> None:
    """Hints that help to find a path, and which the web's rules demand."""
    sigstore = FakeSigstore(key_identifiers=False)
    leaf = sigstore.leaf()
    signature = sign(leaf.key, encoding(PAYLOAD))
    entry = sigstore.entry_v1(dsse_body(signature, leaf.pem, PAYLOAD))
    bundle = certified_bundle(leaf, PAYLOAD, signature, [entry])
    assert _vouch(bundle, parse_trust_root(sigstore.trusted_root())).identity is not None


def test_an_authority_is_believed_within_its_interval_only() -> None:
    content = json.loads(SIGSTORE.trusted_root())
    content["certificateAuthorities"][0]["validFor"]["start"] = f"{NOW + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    _refused(_bundle(ENTRY), "Untrusted", "not believed", parse_trust_root(json.dumps(content).encode()))


def test_a_signature_by_another_key_than_the_certificates_does_not_vouch() -> None:
    signature = sign(make_key(), encoding(PAYLOAD))
    entry = SIGSTORE.entry_v1(dsse_body(signature, LEAF.pem, PAYLOAD))
    _refused(certified_bundle(LEAF, PAYLOAD, signature, [entry]), "NoKeyMatches", "nor its certificate")


# Signed certificate timestamps


@pytest.mark.parametrize(
    "leaf",
    [
        SIGSTORE.leaf(sct=False),
        SIGSTORE.leaf(ct_key=make_key()),
        SIGSTORE.leaf(sct_at=NOW - timedelta(days=365)),
    ],
)
def test_without_a_certificate_log_of_the_root_the_sct_is_not_proven(leaf: Leaf) -> None:
    assert _kinds(_logged(leaf)) == {"log"}


def test_the_sct_of_another_certificate_proves_nothing() -> None:
    made = embedded_sct(LEAF.certificate.tbs_certificate_bytes, SIGSTORE.ca_key, SIGSTORE.ct_key, NOW)
    number = x509.UnrecognizedExtension(SCT_LIST, made)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(SIGSTORE.ca.subject)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(LEAF.certificate.not_valid_before_utc)
    builder = builder.not_valid_after(LEAF.certificate.not_valid_after_utc).add_extension(number, critical=False)
    for one in LEAF.certificate.extensions:
        if one.oid != SCT_LIST and not isinstance(one.value, x509.SubjectKeyIdentifier):
            builder = builder.add_extension(one.value, critical=one.critical)
    leaf = Leaf(key, builder.sign(SIGSTORE.ca_key, hashes.SHA256()))
    assert _kinds(_logged(leaf)) == {"log"}


# Keys with proofs beside them


def _keyed(*entries: dict[str, Any]) -> tuple[bytes, Any]:
    key = make_key()
    members = json.loads(keyed_bundle(key, PAYLOAD))
    members["verificationMaterial"]["tlogEntries"] = list(entries)
    return json.dumps(members).encode(), key


def _keyed_entry(key: Any, bundle: bytes, **how: Any) -> dict[str, Any]:
    signature = base64.b64decode(json.loads(bundle)["dsseEnvelope"]["signatures"][0]["sig"])
    return SIGSTORE.entry_v1(dsse_body(signature, pem_of(key).encode(), PAYLOAD), **how)


def test_a_keys_signature_has_its_time_by_the_root_that_is_asked() -> None:
    bundle, key = _keyed()
    members = json.loads(bundle)
    members["verificationMaterial"]["tlogEntries"] = [_keyed_entry(key, bundle)]
    other = parse_trust_root(FakeSigstore().trusted_root())
    public = parse_public_key(pem_of(key))
    (vouch,) = open_bundle(json.dumps(members).encode(), (public,), (other, ROOT)).vouches
    assert vouch.proof is not None
    assert (vouch.proof.root, vouch.proof.kinds) == (ROOT.hash, ("log",))
    assert vouch.proof.signed_at == int(NOW.timestamp())
    (bare,) = open_bundle(json.dumps(members).encode(), (public,), (other,)).vouches
    assert bare.proof is None


@pytest.mark.parametrize("damage", [{"integratedTime": "5"}, {"logIndex": "x"}, {"inclusionProof": []}, {"logId": 3}])
def test_a_damaged_proof_beside_a_keys_signature_proves_nothing_and_takes_nothing_away(damage: dict[str, Any]) -> None:
    bundle, key = _keyed()
    members = json.loads(bundle)
    members["verificationMaterial"]["tlogEntries"] = [_keyed_entry(key, bundle) | damage]
    opened = open_bundle(json.dumps(members).encode(), (parse_public_key(pem_of(key)),), (ROOT,))
    assert [vouch.proof for vouch in opened.vouches] == [None]
    assert opened.problems


# cosign's classic form


def _annotations(signature: bytes, body: Any) -> dict[str, str]:
    entry = SIGSTORE.entry_v1(body)
    promise = entry["inclusionPromise"]["signedEntryTimestamp"]
    payload = {
        "body": entry["canonicalizedBody"],
        "integratedTime": int(NOW.timestamp()),
        "logIndex": 7,
        "logID": base64.b64decode(entry["logId"]["keyId"]).hex(),
    }
    return {
        "dev.cosignproject.cosign/signature": text(signature),
        "dev.sigstore.cosign/certificate": LEAF.pem.decode(),
        "dev.sigstore.cosign/bundle": json.dumps({"SignedEntryTimestamp": promise, "Payload": payload}),
    }


def test_a_classic_signature_vouches_by_certificate_and_promise_in_its_annotations() -> None:
    signature = sign(LEAF.key, PAYLOAD)
    annotations = _annotations(signature, hashedrekord_body(signature, LEAF.pem, PAYLOAD))
    (vouch,) = open_payload(PAYLOAD, annotations, (), (ROOT,))
    assert vouch.format == "classic"
    assert vouch.identity is not None
    assert vouch.proof is not None
    assert set(vouch.proof.kinds) == {"log", "sct"}


@pytest.mark.parametrize(
    "change",
    [
        {"dev.sigstore.cosign/certificate": SIGSTORE.leaf().pem.decode()},
        {"dev.sigstore.cosign/certificate": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"},
        {"dev.sigstore.cosign/certificate": ""},
        {"dev.sigstore.cosign/bundle": ""},
        {"dev.sigstore.cosign/bundle": "{}"},
        {"dev.sigstore.cosign/bundle": "[" * 100_000},
        {"dev.sigstore.cosign/bundle": "\ud800"},
        {"dev.cosignproject.cosign/signature": text(SIGNATURE)},
    ],
)
def test_a_classic_signature_with_an_annotation_of_anothers_does_not_vouch(change: dict[str, str]) -> None:
    signature = sign(LEAF.key, PAYLOAD)
    annotations = _annotations(signature, hashedrekord_body(signature, LEAF.pem, PAYLOAD)) | change
    with pytest.raises(SignatureError):
        open_payload(PAYLOAD, annotations, (), (ROOT,))


def test_a_classic_attestation_in_a_log_of_envelopes_by_hash_needs_its_very_bytes() -> None:
    """Entries `intoto` 0.0.1, as cosign 1 made them, say nothing of the signature but the envelope's hash."""
    envelope = json.dumps(
        {"payloadType": PAYLOAD_TYPE, "payload": text(PAYLOAD), "signatures": [{"keyid": "", "sig": text(SIGNATURE)}]}
    ).encode()
    content = {
        "hash": {"algorithm": "sha256", "value": hashlib.sha256(envelope).hexdigest()},
        "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(PAYLOAD).hexdigest()},
    }
    body = {"apiVersion": "0.0.1", "kind": "intoto", "spec": {"content": content, "publicKey": text(LEAF.pem)}}
    annotations = _annotations(b"", body) | {"dev.cosignproject.cosign/signature": ""}
    opened = open_envelope(envelope, annotations, (), (ROOT,))
    assert opened.payload == PAYLOAD
    with pytest.raises(SignatureError, match="another signature"):
        open_envelope(envelope + b" ", annotations, (), (ROOT,))


# Timestamps (of sigstore-conformance's vectors, by a real authority)


def _stamped(name: str) -> dict[str, Any]:
    return vectors()[name].members


def _signers(name: str, members: dict[str, Any], root: TrustRoot) -> Vouch:
    vector = vectors()[name]._replace(bundle=json.dumps(members).encode())
    (vouch,) = signers_of(vector, (root,)).vouches
    return vouch


STAMPED = "rekor2-happy-path"
STAMP_ROOT = parse_trust_root(vectors()[STAMPED].root)


def test_a_timestamp_alone_is_a_trusted_time() -> None:
    members = _stamped(STAMPED)
    del members["verificationMaterial"]["tlogEntries"]
    proof = _signers(STAMPED, members, STAMP_ROOT).proof
    assert proof is not None
    assert set(proof.kinds) == {"timestamp", "sct"}


@pytest.mark.parametrize("other", ["rekor2-timestamp-with-embedded-cert", "rekor2-dsse-happy-path"])
def test_a_timestamp_over_another_signature_is_none(other: str) -> None:
    members = _stamped(STAMPED)
    material = _stamped(other)["verificationMaterial"]
    members["verificationMaterial"]["timestampVerificationData"] = material["timestampVerificationData"]
    root = json.loads(vectors()[STAMPED].root)
    root["timestampAuthorities"] += json.loads(vectors()[other].root)["timestampAuthorities"]
    with pytest.raises(SignatureError, match="Mismatch between messages"):
        _signers(STAMPED, members, parse_trust_root(json.dumps(root).encode()))


def test_a_timestamp_by_an_authority_that_the_root_does_not_name_is_none() -> None:
    root = json.loads(vectors()[STAMPED].root)
    del root["timestampAuthorities"]
    with pytest.raises(SignatureError, match="names no timestamp authority"):
        _signers(STAMPED, _stamped(STAMPED), parse_trust_root(json.dumps(root).encode()))


# What would keep us busy


def test_more_log_entries_and_timestamps_than_anybody_needs_are_not_looked_at() -> None:
    opened = open_bundle(_bundle(ENTRY, *[SIGSTORE.entry_v1(BODY, key=make_key())] * 100), (), (ROOT,))
    assert "than are looked at" in opened.problems[0]
    stamps = {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}] * 100}
    opened = open_bundle(_bundle(ENTRY, timestampVerificationData=stamps), (), (ROOT,))
    assert len(opened.problems) <= 9


@pytest.mark.parametrize(
    "bundle",
    [
        b"[" * 1_000_000,
        b'{"mediaType":' * 100_000,
        _bundle(ENTRY)[:-1] + b', "verificationMaterial": {}}',
        _bundle(ENTRY | {"canonicalizedBody": text(b"[" * 100_000)}),
        _bundle(ENTRY, certificate={"rawBytes": text(LEAF.der + bytes(20_000))}),
        _bundle(ENTRY, certificate={"rawBytes": text(LEAF.der + b"\x00")}),
        _bundle(ENTRY, certificate=None, x509CertificateChain={"certificates": [{"rawBytes": text(LEAF.der)}] * 9}),
        _bundle(ENTRY | {"inclusionProof": ENTRY["inclusionProof"] | {"hashes": [text(bytes(32))] * 10_000}}),
        _bundle(ENTRY | {"inclusionProof": ENTRY["inclusionProof"] | {"checkpoint": {"envelope": "\n" * 100_000}}}),
    ],
)
def test_what_is_oversized_or_nested_deep_is_refused(bundle: bytes) -> None:
    with pytest.raises(SignatureError):
        open_bundle(bundle, (), (ROOT,))
