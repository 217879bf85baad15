"""Secrets: written as read, and anything else is a clear error."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.keys.authority import OVERLAP, AuthoritySet, issue, new_authority, plan_authorities, plan_serving
from countersign.keys.errors import UnreadableKeysError
from countersign.keys.receipt_keys import plan_receipt_keys, revoke_receipt_key
from countersign.keys.secrets import (
    AUTHORITIES_FILE,
    RECEIPT_KEYS_FILE,
    decode_authorities,
    decode_receipt_keys,
    decode_serving,
    encode_authorities,
    encode_receipt_keys,
    encode_serving,
    from_secret_data,
    to_secret_data,
)

NOW = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=UTC)


def test_authorities_are_read_as_written() -> None:
    authorities = plan_authorities(None, NOW)
    assert authorities
    read = decode_authorities(from_secret_data(to_secret_data(encode_authorities(authorities))))
    assert read == authorities
    assert issue(read.issuer(NOW), ["a.example.com"], NOW)


def test_receipt_keys_are_read_as_written() -> None:
    keys = plan_receipt_keys(None, NOW)
    assert keys
    keys = revoke_receipt_key(keys, keys.keys[0].id, NOW)
    assert decode_receipt_keys(from_secret_data(to_secret_data(encode_receipt_keys(keys)))) == keys


def test_a_serving_certificate_is_read_as_written_and_has_the_shape_of_a_tls_secret() -> None:
    authorities = plan_authorities(None, NOW)
    assert authorities
    served = plan_serving(None, authorities, ["a.example.com"], NOW)
    assert served
    files = encode_serving(served)
    assert set(files) == {"tls.crt", "tls.key", "ca.crt"}
    assert decode_serving(files) == served


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key", "ca.crt"])
def test_a_serving_secret_without_a_file_is_named(missing: str) -> None:
    files = {"tls.crt": b"a", "tls.key": b"b", "ca.crt": b"c"}
    with pytest.raises(UnreadableKeysError, match=missing):
        decode_serving(files | {missing: b""})


def _receipt_file(**changes: Any) -> dict[str, bytes]:
    keys = plan_receipt_keys(None, NOW)
    assert keys
    document = json.loads(encode_receipt_keys(keys)[RECEIPT_KEYS_FILE])
    document["keys"][0].update(changes.pop("key", {}))
    return {RECEIPT_KEYS_FILE: json.dumps(document | changes).encode()}


@pytest.mark.parametrize(
    "files",
    [
        {},
        {RECEIPT_KEYS_FILE: b"{"},
        {RECEIPT_KEYS_FILE: b"\xff"},
        _receipt_file(key={"id": ""}),
        _receipt_file(key={"secret": "c2hvcnQ="}),
        _receipt_file(key={"secret": 5}),
        _receipt_file(key={"createdAt": "2026-11-22T01:02:03"}),
        _receipt_file(key={"surprise": True}),
        _receipt_file(surprise=True),
        _receipt_file(revoked=[str(number) for number in range(65)]),
    ],
)
def test_bad_receipt_keys_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(UnreadableKeysError, match=RECEIPT_KEYS_FILE):
        decode_receipt_keys(files)


def test_two_receipt_keys_of_one_id_are_refused() -> None:
    document = json.loads(_receipt_file()[RECEIPT_KEYS_FILE])
    document["keys"] *= 2
    with pytest.raises(UnreadableKeysError, match="share an id"):
        decode_receipt_keys({RECEIPT_KEYS_FILE: json.dumps(document).encode()})


def test_authorities_out_of_order_without_any_or_unreadable_are_refused() -> None:
    older, newer = new_authority(NOW), new_authority(NOW + OVERLAP)
    swapped = encode_authorities(AuthoritySet((newer, older)))
    with pytest.raises(UnreadableKeysError, match="oldest first"):
        decode_authorities(swapped)
    with pytest.raises(UnreadableKeysError):
        decode_authorities({AUTHORITIES_FILE: b'{"authorities":[]}'})
    unreadable = json.loads(swapped[AUTHORITIES_FILE])["authorities"][:1]
    unreadable[0]["certificate"] = "junk"
    with pytest.raises(UnreadableKeysError, match="PEM"):
        decode_authorities({AUTHORITIES_FILE: json.dumps({"authorities": unreadable}).encode()})


@given(st.dictionaries(st.sampled_from([AUTHORITIES_FILE, RECEIPT_KEYS_FILE]), st.binary(max_size=200)))
def test_any_bytes_get_the_typed_error(files: dict[str, bytes]) -> None:
    for decode in (decode_authorities, decode_receipt_keys, decode_serving):
        with pytest.raises(UnreadableKeysError):
            decode(files)


@pytest.mark.parametrize("text", ["!!!!", "abc", "a b=", "ä"])
def test_secret_data_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(UnreadableKeysError):
        from_secret_data({"x": text})


def test_an_empty_secret_has_no_files() -> None:
    assert from_secret_data(None) == {}
