"""Whatever bytes come, the parsers of certificates, logs, timestamps and roots fail in one way only."""

import base64
import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.annotations import (
    BUNDLE_ANNOTATION,
    CERTIFICATE_ANNOTATION,
    TIMESTAMP_ANNOTATION,
    read_annotations,
)
from countersign.signatures.formats.bundles import read_bundle
from countersign.signatures.roots.trust_root import BadTrustRoot, parse_trust_root
from countersign.signatures.signers import open_bundle, open_envelope, open_payload
from countersign.signatures.witnesses.certificates import chain_at, read_certificate
from countersign.signatures.witnesses.inclusion import root_hash, signed_tree
from countersign.signatures.witnesses.log_bodies import Signed, is_v2, judge_body
from countersign.signatures.witnesses.scts import vouching_log
from countersign.signatures.witnesses.timestamps import verify_timestamp
from tests.fakes.conformance import signers_of, vectors
from tests.fakes.sigstore import (
    NOW,
    FakeSigstore,
    certified_bundle,
    dsse_body,
    encoding,
    hashedrekord_body_v2,
    sign,
)
from tests.lab.sigstore.merkle import MerkleTree

SIGSTORE = FakeSigstore()
CONTENT = SIGSTORE.trusted_root()
ROOT = parse_trust_root(CONTENT)
LEAF = SIGSTORE.leaf()
PAYLOAD = b"{}"
SIGNATURE = sign(LEAF.key, encoding(PAYLOAD))
BODIES = (
    dsse_body(SIGNATURE, LEAF.pem, PAYLOAD),
    hashedrekord_body_v2(SIGNATURE, LEAF.der, encoding(PAYLOAD)),
)
BUNDLE = certified_bundle(LEAF, PAYLOAD, SIGNATURE, [SIGSTORE.entry_v1(BODIES[0]), SIGSTORE.entry_v2(BODIES[1])])
(GOOD,) = open_bundle(BUNDLE, (), (ROOT,)).vouches
STAMPED = vectors()["rekor2-happy-path"]
STAMP_ROOT = parse_trust_root(STAMPED.root)
STAMP = base64.b64decode(
    STAMPED.members["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"]
)
STAMPED_MESSAGE = base64.b64decode(STAMPED.members["messageSignature"]["signature"])

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with a few of them changed, a piece taken out, or the end cut off."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(damaged) - 1))
        end = draw(st.sampled_from([at + 1, at + 1, at, at + 2, len(damaged)]))
        damaged[at:end] = draw(st.binary(max_size=3))
        if not damaged:
            return b""
    return bytes(damaged)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, member in inner for one in _places(member, (*path, key)))][bool(not path) :]


@st.composite
def _other_member(draw: st.DrawFn, data: bytes) -> bytes:
    """The JSON with any JSON in the place of one member, at any depth."""
    value = copy.deepcopy(json.loads(data))
    *way, last = draw(st.sampled_from(_places(value)))
    holder = value
    for key in way:
        holder = holder[key]
    holder[last] = draw(_json)
    return json.dumps(value).encode()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_nothing(data: bytes) -> None:
    with pytest.raises(SignatureError):
        read_certificate(data)
    with pytest.raises(SignatureError):
        read_bundle(data)
    with pytest.raises(SignatureError):
        verify_timestamp(data, (data,), STAMP_ROOT)
    with pytest.raises(SignatureError):
        judge_body(data, "", "", Signed(data, data))
    with pytest.raises(SignatureError):
        open_envelope(data, {}, (), (ROOT,))
    with pytest.raises(BadTrustRoot):
        parse_trust_root(data)
    assert not is_v2(data)


@given(st.text(max_size=300) | st.text("\n \N{EM DASH}aA0=+/", max_size=200))
def test_arbitrary_text_is_no_checkpoint_and_no_annotation(text: str) -> None:
    with pytest.raises(SignatureError):
        signed_tree(text, next(iter(ROOT.logs.values())))
    material = read_annotations(
        {CERTIFICATE_ANNOTATION: text, BUNDLE_ANNOTATION: text, TIMESTAMP_ANNOTATION: text, "other": text}
    )
    assert (material.certificate, material.entries, material.timestamps) == (None, (), ())
    with pytest.raises(SignatureError):
        open_payload(PAYLOAD, {CERTIFICATE_ANNOTATION: text}, (), (ROOT,))


@given(_damaged(LEAF.der))
def test_a_damaged_certificate_goes_back_to_no_root(der: bytes) -> None:
    with contextlib.suppress(SignatureError):
        leaf = read_certificate(der)
        if der != LEAF.der:
            vouching_log(leaf.certificate, SIGSTORE.ca, ROOT)
            with pytest.raises(SignatureError):
                chain_at(leaf, ROOT.certificate_authorities, NOW)


@given(_damaged(STAMP))
def test_a_damaged_timestamp_says_the_same_time_or_nothing(response: bytes) -> None:
    with contextlib.suppress(SignatureError):
        stamped = verify_timestamp(response, (STAMPED_MESSAGE,), STAMP_ROOT)
        assert stamped.time == verify_timestamp(STAMP, (STAMPED_MESSAGE,), STAMP_ROOT).time


@given(_damaged(BUNDLE) | _other_member(BUNDLE))
def test_a_damaged_bundle_proves_less_about_the_same_signer_or_nothing(bundle: bytes) -> None:
    with contextlib.suppress(SignatureError):
        opened = open_bundle(bundle, (), (ROOT,))
        assert opened.payload == PAYLOAD
        for vouch in opened.vouches:
            assert vouch.identity == GOOD.identity
            assert vouch.proof is not None
            assert GOOD.proof is not None
            assert set(vouch.proof.anchors) <= set(GOOD.proof.anchors)
            assert vouch.proof.signed_at == GOOD.proof.signed_at


@given(st.sampled_from(sorted(vectors())), st.data())
@settings(max_examples=150)
def test_damaged_vectors_fail_in_one_way_only(name: str, data: st.DataObject) -> None:
    vector = vectors()[name]
    if not vector.members:
        return
    damaged = data.draw(_other_member(vector.bundle))
    with contextlib.suppress(SignatureError, BadTrustRoot):
        root = parse_trust_root(vector.root)
        if isinstance(json.loads(damaged).get("messageSignature", {}), dict):
            with contextlib.suppress(TypeError, KeyError):  # the test's own reading of a blob's signature
                signers_of(vector._replace(bundle=damaged), (root,))


@given(_other_member(CONTENT) | _damaged(CONTENT))
def test_a_damaged_root_is_read_or_says_what_is_wrong(content: bytes) -> None:
    try:
        root = parse_trust_root(content)
    except BadTrustRoot:
        return
    assert root.hash.startswith("sha256:")


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=20), st.data())
def test_a_merkle_proof_leads_to_its_trees_root_and_to_no_other(entries: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree()
    for entry in entries:
        tree.append(entry)
    index = data.draw(st.integers(0, tree.size - 1))
    proof = tree.proof(index)
    assert root_hash(index, tree.size, entries[index], proof) == tree.root()
    other_index = data.draw(st.integers(-1, tree.size + 1))
    other_size = data.draw(st.integers(0, tree.size + 3))
    other_entry = data.draw(st.binary(max_size=4))
    with contextlib.suppress(SignatureError):
        if root_hash(other_index, other_size, other_entry, proof) == tree.root():
            assert other_entry == entries[index]
