"""Whatever bytes come, the signature parsers vouch for nothing and fail in one way only."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.signatures.keys import BadPublicKey, parse_public_key
from countersign.trust.strict_json import BadJSON, parse
from tests.fakes.examined import RefusedError, vouch_of_bundle, vouch_of_payload
from tests.fakes.signing import bundle, classic_payload, make_key, pem_of, sign, statement

DIGEST = "sha256:" + "ab" * 32
KEY = make_key()
PEMS = (pem_of(KEY),)
KEYS = tuple(map(parse_public_key, PEMS))
GOOD_BUNDLE = bundle(KEY, statement(DIGEST))
GOOD_PAYLOAD = classic_payload(DIGEST)
GOOD_SIGNATURE = sign(KEY, GOOD_PAYLOAD)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_vouch(data: bytes) -> None:
    with pytest.raises(RefusedError):
        vouch_of_bundle(data, DIGEST, PEMS)
    with pytest.raises(RefusedError):
        vouch_of_payload(data, GOOD_SIGNATURE, DIGEST, PEMS)


@given(st.text(max_size=200))
def test_arbitrary_signature_text_never_vouches(text: str) -> None:
    with pytest.raises(RefusedError):
        vouch_of_payload(GOOD_PAYLOAD, text, DIGEST, PEMS)


@given(_json)
def test_arbitrary_json_that_the_key_signed_never_vouches(value: Any) -> None:
    payload = json.dumps(value).encode()
    with pytest.raises(RefusedError):
        vouch_of_payload(payload, sign(KEY, payload), DIGEST, PEMS)
    with pytest.raises(RefusedError):
        vouch_of_bundle(bundle(KEY, payload), DIGEST, PEMS)
    with pytest.raises(RefusedError):
        vouch_of_bundle(payload, DIGEST, PEMS)


@given(st.data())
def test_one_changed_byte_of_a_good_bundle_vouches_for_the_same_key_or_for_nothing(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(GOOD_BUNDLE) - 1))
    changed = GOOD_BUNDLE[:position] + data.draw(st.binary(min_size=1, max_size=1)) + GOOD_BUNDLE[position + 1 :]
    with contextlib.suppress(RefusedError):
        assert vouch_of_bundle(changed, DIGEST, PEMS) == vouch_of_bundle(GOOD_BUNDLE, DIGEST, PEMS)


@given(st.data())
def test_one_changed_byte_of_a_good_payload_vouches_for_nothing(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(GOOD_PAYLOAD) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != GOOD_PAYLOAD[position]))
    changed = GOOD_PAYLOAD[:position] + bytes([byte]) + GOOD_PAYLOAD[position + 1 :]
    with pytest.raises(RefusedError):
        vouch_of_payload(changed, GOOD_SIGNATURE, DIGEST, PEMS)


@given(
    st.text(max_size=300) | st.text("-BEGINPULCKY \nMFkw+/=", max_size=200).map("-----BEGIN PUBLIC KEY-----\n{}".format)
)
def test_arbitrary_text_is_no_public_key(text: str) -> None:
    with pytest.raises(BadPublicKey):
        parse_public_key(text)


@given(st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_strict_json_reads_what_json_reads_or_refuses(data: bytes) -> None:
    try:
        value = parse(data)
    except BadJSON:
        return
    assert value == json.loads(data)
