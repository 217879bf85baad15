"""cosign's classic payloads: what vouches, and for what."""

import pytest

from countersign.signatures.keys import parse_public_key
from tests.fakes.examined import RefusedError, vouch_of_payload
from tests.fakes.signing import classic_payload, make_key, pem_of, sign

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
KEY = make_key()
PEMS = (pem_of(make_key()), pem_of(KEY))
KEYS = tuple(map(parse_public_key, PEMS))


def test_a_payload_for_this_digest_signed_by_one_of_the_keys_vouches_and_tells_its_reference() -> None:
    payload = classic_payload(DIGEST, "registry.example.com/team/app")
    vouch = vouch_of_payload(payload, sign(KEY, payload), DIGEST, PEMS)
    assert vouch.key_fingerprint == KEYS[1].fingerprint
    assert vouch.format == "classic"
    assert vouch.reference == "registry.example.com/team/app"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (classic_payload(OTHER), "OtherDigest"),
        (classic_payload(DIGEST, type="atomic container signature"), "OtherType"),
        (classic_payload(DIGEST, image={}), "Malformed"),
        (classic_payload(DIGEST, image={"docker-manifest-digest": [DIGEST]}), "Malformed"),
        (classic_payload(DIGEST, reference="a\nb"), "Malformed"),
        (classic_payload(DIGEST, reference="a" * 2000), "Malformed"),
        (classic_payload(DIGEST, reference="\ud800"), "Malformed"),
        (b"{}", "Malformed"),
        (b"", "Malformed"),
        (b"\xff\xfe", "Malformed"),
        (b'{"critical": NaN}', "Malformed"),
        (b"[" * 100_000, "Malformed"),
        (
            classic_payload(DIGEST).replace(
                b'"image":', f'"image": {{"docker-manifest-digest": "{OTHER}"}}, "image":'.encode()
            ),
            "Malformed",
        ),
    ],
)
def test_a_genuine_signature_over_anything_else_does_not_vouch(payload: bytes, problem: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        vouch_of_payload(payload, sign(KEY, payload), DIGEST, PEMS)
    assert refusal.value.problem == problem


@pytest.mark.parametrize(
    "signature",
    ["", "AAAA", "not base64!", "é", "A" * 3000, pytest.param(sign(KEY, b"something else"), id="of something else")],
)
def test_a_signature_that_none_of_the_keys_made_does_not_vouch(signature: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        vouch_of_payload(classic_payload(DIGEST), signature, DIGEST, PEMS)
    assert refusal.value.problem in {"NoKeyMatches", "Malformed"}


def test_with_no_keys_nothing_vouches() -> None:
    payload = classic_payload(DIGEST)
    with pytest.raises(RefusedError):
        vouch_of_payload(payload, sign(KEY, payload), DIGEST, ())
