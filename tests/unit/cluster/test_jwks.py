"""The issuer's keys: replaced whole, kept over errors, and rarely asked for."""

import asyncio
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from countersign.cluster.client import ApiClient
from countersign.cluster.errors import ClusterError
from countersign.cluster.jwks import MAX_KEYS, UNKNOWN_KEY_SECONDS, JwksCache, usable_keys
from tests.fakes.api_server import FakeApiServer, Fault

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def jwk(private: Any, **members: Any) -> dict[str, Any]:
    algorithm = ECAlgorithm if isinstance(private, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    document: dict[str, Any] = json.loads(algorithm.to_jwk(private.public_key()))
    return document | members


def serve(server: FakeApiServer, *keys: dict[str, Any], issuer: str = "https://issuer.test") -> None:
    server.documents["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": "https://elsewhere.test/"}
    server.documents["/openid/v1/jwks"] = {"keys": list(keys)}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_token_of_the_issuer_verifies_with_the_key_of_its_id(client: ApiClient, server: FakeApiServer) -> None:
    serve(server, jwk(EC, kid="e", use="sig"), jwk(RSA, kid="r", alg="RS256"))
    cache = JwksCache(client)
    assert (cache.issuer, cache.key("e"), cache.age(5.0)) == (None, None, float("inf"))
    await cache.refresh()
    assert cache.issuer == "https://issuer.test"
    for kid, private, algorithm in (("e", EC, "ES256"), ("r", RSA, "RS256")):
        key = cache.key(kid)
        assert key
        token = jwt.encode({"sub": "a"}, private, algorithm=algorithm, headers={"kid": kid})
        assert jwt.decode(token, key, algorithms=[key.algorithm_name]) == {"sub": "a"}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kid": "k"},
        {"kid": "k", "kty": "oct", "k": "c2VjcmV0"},
        json.loads(HMACAlgorithm.to_jwk("s" * 32)) | {"kid": "k", "alg": "HS256"},
        json.loads(HMACAlgorithm.to_jwk("s" * 32)) | {"kid": "k", "alg": "RS256"},
        jwk(EC),
        jwk(EC, kid=""),
        jwk(EC, kid=5),
        jwk(EC, kid="k", use="enc"),
        jwk(EC, kid="k", alg="none"),
        jwk(EC, kid="k", alg="HS256"),
        jwk(EC, kid="k", alg=["ES256"]),
        jwk(EC, kid="k", x="!"),
        jwk(rsa.generate_private_key(65537, 1024), kid="k"),  # noqa: S505 - what must be refused
        json.loads(ECAlgorithm.to_jwk(EC)) | {"kid": "k"},
        json.loads(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key())) | {"kid": "k"},
    ],
)
def test_what_is_not_a_public_signing_key_of_a_listed_algorithm_is_left_out(document: dict[str, Any]) -> None:
    assert list(usable_keys([document, jwk(EC, kid="good")])) == ["good"]


def test_the_number_of_keys_is_bounded_and_the_first_of_an_id_counts() -> None:
    assert len(usable_keys([jwk(EC, kid=str(number)) for number in range(MAX_KEYS + 5)])) == MAX_KEYS
    twice = usable_keys([jwk(EC, kid="a"), jwk(RSA, kid="a")])
    assert twice["a"].algorithm_name == "ES256"


async def test_keys_are_replaced_whole(client: ApiClient, server: FakeApiServer) -> None:
    cache = JwksCache(client)
    serve(server, jwk(EC, kid="old"))
    await cache.refresh()
    serve(server, jwk(RSA, kid="new"), issuer="https://moved.test")
    await cache.refresh()
    assert (cache.key("old"), cache.issuer) == (None, "https://moved.test")
    assert cache.key("new")


async def test_an_unknown_key_is_asked_for_once_for_all_callers_and_then_not_for_a_while(
    client: ApiClient, server: FakeApiServer
) -> None:
    clock = Clock()
    cache = JwksCache(client, clock)
    serve(server, jwk(EC, kid="known"))
    await cache.refresh()
    server.requests.clear()
    serve(server, jwk(EC, kid="known"), jwk(RSA, kid="fresh"))
    found = await asyncio.gather(*(cache.find("fresh") for _ in range(50)))
    assert all(found)
    assert len(server.requests) == 2
    for number in range(50):
        assert await cache.find(f"junk{number}") is None
    assert len(server.requests) == 2
    clock.now += UNKNOWN_KEY_SECONDS
    assert await cache.find("junk") is None
    assert len(server.requests) == 4


async def test_a_caller_who_gives_up_does_not_end_the_fetch_of_the_others(
    client: ApiClient, server: FakeApiServer
) -> None:
    serve(server, jwk(EC, kid="k"))
    server.faults.append(Fault(lambda _: True, delay=0.1))
    cache = JwksCache(client)
    impatient, patient = asyncio.create_task(cache.find("k")), asyncio.create_task(cache.find("k"))
    await asyncio.sleep(0.02)
    impatient.cancel()
    assert await patient


@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": [{"kid": "k"}]}, {"keys": 5}])
async def test_the_last_good_keys_stay_over_a_bad_answer_and_their_age_shows(
    client: ApiClient, server: FakeApiServer, document: Any
) -> None:
    clock = Clock()
    cache = JwksCache(client, clock)
    serve(server, jwk(EC, kid="k"))
    await cache.refresh()
    clock.now += 300
    server.documents["/openid/v1/jwks"] = document
    with pytest.raises(ClusterError):
        await cache.refresh()
    assert await cache.find("other") is None
    assert cache.key("k")
    assert cache.age(clock.now) == 300


async def test_the_background_refresh_outlives_errors(client: ApiClient, server: FakeApiServer) -> None:
    cache = JwksCache(client)
    task = asyncio.create_task(cache.run())
    await asyncio.sleep(0.1)
    assert not task.done()
    assert not cache.ready.is_set()
    serve(server, jwk(EC, kid="k"))
    task.cancel()
    task = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.ready.wait(), 5)
    task.cancel()
