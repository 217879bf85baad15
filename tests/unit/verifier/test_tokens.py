from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from countersign.verifier.tokens import RejectedTokenError, TokenReader
from tests.unit.verifier.world import Keys, jwk, payload, public_pem, rsa_key, sign, token


async def rejected(text: str, keys: Keys | None = None, **options: object) -> str:
    with pytest.raises(RejectedTokenError) as caught:
        await TokenReader(keys or Keys(), **options).read(text)  # type: ignore[arg-type]
    return caught.value.reason


async def test_a_token_of_the_issuer_is_read() -> None:
    verified = await TokenReader(Keys()).read(token())
    assert verified.claims.pod is not None
    assert verified.claims.pod.uid == "pod-uid"
    assert len(verified.digest) == 32


@pytest.mark.parametrize(("curve", "algorithm"), [(ec.SECP256R1(), "ES256"), (ec.SECP384R1(), "ES384")])
async def test_an_elliptic_issuer_is_understood(curve: ec.EllipticCurve, algorithm: str) -> None:
    private = ec.generate_private_key(curve)
    keys = Keys()
    keys.known["ec"] = jwk(private, algorithm)
    made = sign(payload(), key=private, algorithm=algorithm, headers={"kid": "ec"})
    assert (await TokenReader(keys).read(made)).claims.jti


async def test_another_key_under_the_same_id_is_refused() -> None:
    assert await rejected(sign(payload(), key=rsa_key(2))) == "SignatureInvalid"


async def test_a_changed_payload_is_refused() -> None:
    header, _, signature = token().split(".")
    forged = base64.urlsafe_b64encode(json.dumps(payload(aud=["x"])).encode()).rstrip(b"=").decode()
    assert await rejected(f"{header}.{forged}.{signature}") == "SignatureInvalid"


async def test_an_hmac_with_the_public_key_as_secret_is_refused() -> None:
    secret = base64.b64encode(public_pem(rsa_key())).decode()
    assert await rejected(jwt.encode(payload(), secret, algorithm="HS256", headers={"kid": "k1"})) == "TokenMalformed"


async def test_no_algorithm_is_refused() -> None:
    assert await rejected(jwt.encode(payload(), "", algorithm="none", headers={"kid": "k1"})) == "TokenMalformed"


async def test_another_algorithm_than_the_keys_own_is_refused() -> None:
    assert await rejected(sign(payload(), algorithm="PS256")) == "TokenMalformed"
    keys = Keys()
    keys.known["k1"] = jwk(ec.generate_private_key(ec.SECP256R1()), "ES256")
    assert await rejected(token(), keys) == "TokenMalformed"


async def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    own = rsa_key(3)
    brought = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key()))
    assert await rejected(sign(payload(), key=own, headers={"kid": "k1", "jwk": brought})) == "SignatureInvalid"
    assert await rejected(sign(payload(), key=own, headers={"jwk": brought})) == "TokenMalformed"


async def test_an_unknown_key_is_asked_for_and_then_refused() -> None:
    keys = Keys()
    assert await rejected(sign(payload(), headers={"kid": "k2"}), keys) == "KeyUnknown"
    assert keys.asked == ["k2"]


async def test_a_key_just_published_is_found() -> None:
    keys = Keys()
    keys.hidden = {"k2": jwk(rsa_key(2), "RS256")}
    assert (await TokenReader(keys).read(sign(payload(), key=rsa_key(2), headers={"kid": "k2"}))).claims.jti


async def test_another_issuer_is_refused_unless_it_is_named() -> None:
    made = token(iss="https://old.example.com")
    assert await rejected(made) == "IssuerUnknown"
    assert (await TokenReader(Keys(), issuers=["https://old.example.com"]).read(made)).claims.jti


async def test_no_issuer_is_known_before_the_first_fetch() -> None:
    keys = Keys()
    keys.issuer = None
    assert await rejected(token(), keys) == "IssuerUnknown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "a.b",
        "a.b.c",
        "e30.e30.AAAA",
        "....",
        "\u00e9.e30.AAAA",
        "x" * 9000,
        "e30.e30.AAAA.AAAA",
        "\x00",
        " ",
    ],
)
async def test_what_is_no_jwt_is_refused(text: str) -> None:
    assert await rejected(text) == "TokenMalformed"


async def test_a_signed_payload_of_another_shape_is_refused() -> None:
    assert await rejected(sign({"iss": "x", "sub": "y"})) == "TokenMalformed"


async def test_verified_claims_are_remembered_until_the_keys_are_replaced() -> None:
    keys = Keys()
    reader = TokenReader(keys)
    first = await reader.read(token())
    assert await reader.read(token()) is first
    keys.known["k1"] = jwk(rsa_key(), "RS256")  # the same key, fetched anew
    assert await reader.read(token()) is not first
    keys.known = {"other": jwk(rsa_key(2), "RS256")}
    with pytest.raises(RejectedTokenError):
        await reader.read(token())


async def test_no_more_is_remembered_than_there_is_room_for() -> None:
    reader = TokenReader(Keys(), capacity=3)
    for number in range(5):
        await reader.read(token(jti=str(number)))
    assert len(reader) == 3


async def test_a_refused_token_is_not_remembered() -> None:
    reader = TokenReader(Keys())
    with pytest.raises(RejectedTokenError):
        await reader.read("garbage")
    assert len(reader) == 0
