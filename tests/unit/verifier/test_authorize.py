"""The hook for proxies: who asks, about which token, for what use; and an answer that every proxy fails closed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from countersign.access.use import UNTOLD, Use
from countersign.verifier.authorize import IDENTITY, AmbiguousError, question
from countersign.verifier.records import Record
from tests.unit.access import cases
from tests.unit.verifier.world import World, asker_token, token

Ask = Callable[..., Awaitable[ClientResponse]]


@pytest.fixture
def world() -> World:
    return World(rate=1000.0, burst=1000).settle()


@pytest.fixture
def records(world: World) -> list[Record]:
    heard: list[Record] = []
    world.app._recorders = (heard.append,)
    return heard


@pytest.fixture
async def ask(world: World) -> AsyncIterator[Ask]:
    async with TestClient(TestServer(world.app.application)) as client:

        async def send(
            path: str = "/authorize",
            *,
            bearer: str | None = None,
            asker: str | None = None,
            method: str = "GET",
            headers: Mapping[str, str] | None = None,
        ) -> ClientResponse:
            sent = {
                "Authorization": f"Bearer {token() if bearer is None else bearer}",
                "Countersign-Asker": asker_token() if asker is None else asker,
                **(headers or {}),
            }
            return await client.request(method, path, headers={name: value for name, value in sent.items() if value})

        yield send


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/authorize", "/authorize/", "/authorize/a/b%20c?d=e", "/authorize?audience=ledger.example.com"]
)
async def test_an_active_token_is_200_with_every_identity_header(ask: Ask, method: str, path: str) -> None:
    answer = await ask(path, method=method)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert {name: answer.headers[name] for name in IDENTITY} == {
        "Countersign-Subject": "system:serviceaccount:payments:api",
        "Countersign-Namespace": "payments",
        "Countersign-Service-Account": "api",
        "Countersign-Pod": "api-7d9c",
        "Countersign-Pod-Uid": cases.claims().pod.uid,  # type: ignore[union-attr]
        "Countersign-Grant": "wg-1",
        "Countersign-Owner": cases.grant().spec.owner,
        "Countersign-Audience": "ledger.example.com",
        "Countersign-Token-Id": cases.claims().jti,
    }


async def test_the_askers_token_may_stand_with_its_scheme(ask: Ask) -> None:
    assert (await ask(asker=f"bearer {asker_token()}")).status == 200


@pytest.mark.parametrize("bearer", ["junk", token(aud=["other.example.com"]), token(exp=1), asker_token()])
async def test_what_is_not_active_is_401_and_the_same_for_each_cause(ask: Ask, bearer: str) -> None:
    answer = await ask(bearer=bearer)
    assert (answer.status, await answer.read()) == (401, b'{"error": "invalid_token"}')
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="countersign.dev", error="invalid_token"'
    assert not any(name in answer.headers for name in IDENTITY)


@pytest.mark.parametrize("shown", ["", "Basic YTpi", "Bearer", "Bearer ", token()])
async def test_a_client_that_shows_no_token_is_told_to(ask: Ask, shown: str) -> None:
    answer = await ask(headers={"Authorization": shown})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="countersign.dev"'


@pytest.mark.parametrize("bearer", [token(), "junk", ""])
@pytest.mark.parametrize("asker", ["", "junk", token(), asker_token(exp=1)])
async def test_nobody_who_may_ask_is_403_whatever_the_token(ask: Ask, asker: str, bearer: str) -> None:
    answer = await ask(bearer=bearer, asker=asker)
    assert (answer.status, await answer.read()) == (403, b'{"error": "access_denied"}')
    assert "WWW-Authenticate" not in answer.headers


async def test_an_asker_that_is_no_introspector_is_told_what_it_is_told_of_junk(ask: Ask) -> None:
    stranger = asker_token("evil", "x")
    found = [await ask(asker=stranger), await ask(asker=stranger, bearer="junk")]
    seen = [(one.status, await one.read(), {**one.headers, "Date": "of either second"}) for one in found]
    assert seen[0] == seen[1]
    assert seen[0][0] == 401


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/authorize?audience=ledger.example.com", {}, 200),
        ("/authorize?audience=other.example.com", {}, 401),
        ("/authorize?audience=", {}, 401),
        ("/authorize?audience=ledger.example.com&audience=other.example.com", {}, 401),
        ("/authorize", {"Countersign-Require-Audience": "ledger.example.com"}, 200),
        ("/authorize", {"Countersign-Require-Audience": "other.example.com"}, 401),
        ("/authorize?audience=ledger.example.com", {"Countersign-Require-Audience": "other.example.com"}, 401),
        # The query of a prefixed path is the client's: it neither helps nor harms.
        ("/authorize/x?audience=other.example.com", {}, 200),
        ("/authorize/x?audience=ledger.example.com", {"Countersign-Require-Audience": "other.example.com"}, 401),
    ],
)
async def test_a_demanded_audience_is_the_tokens_or_it_is_not_active(
    ask: Ask, records: list[Record], path: str, headers: dict[str, str], status: int
) -> None:
    assert (await ask(path, headers=headers)).status == status
    assert records[-1].answer.active is (status == 200)
    assert records[-1].answer.reason == ("Active" if status == 200 else "AudienceNotDemanded")


async def test_stale_is_503_and_too_often_429_both_with_retry_after(ask: Ask, world: World) -> None:
    world.introspection._limiter._rate, world.introspection._limiter._burst = 0.1, 1.0
    assert (await ask()).status == 200
    often = await ask()
    assert (often.status, often.headers["Retry-After"]) == (429, "10")
    world.pass_time(16, beating=False)
    stale = await ask()
    assert (stale.status, stale.headers["Retry-After"]) == (503, "1")
    assert not any(name in stale.headers for name in IDENTITY)


async def test_a_body_that_was_announced_ends_the_connection(world: World) -> None:
    # nginx passes a client's Content-Length on unless told not to; its next request would be taken for the body.
    async with TestServer(world.app.application) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = ["POST /authorize HTTP/1.1", "Host: x", f"Countersign-Asker: {asker_token()}"]
        lines += [f"Authorization: Bearer {token()}", "Content-Length: 90", "", ""]
        writer.write("\r\n".join(lines).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head.lower()


async def test_each_answer_is_recorded_with_what_was_told_of_the_use(ask: Ask, records: list[Record]) -> None:
    await ask(headers={"X-Original-Method": "put", "X-Original-URI": "/a/b?c", "X-Real-IP": "::ffff:192.0.2.7"})
    [record] = records
    assert (record.endpoint, record.answer.active) == ("authorize", True)
    assert record.use == Use(source_address="192.0.2.7", method="PUT", path="/a/b")


def asked(target: str = "/authorize", method: str = "GET", **headers: str) -> Use:
    return question(method, target, CIMultiDict({name.replace("_", "-"): one for name, one in headers.items()})).use


def test_each_proxys_way_of_telling_a_use_is_understood() -> None:
    use = Use(source_address="192.0.2.7", method="POST", path="/a")
    chain = "6.6.6.6, 192.0.2.7"
    assert asked(X_Original_Method="POST", X_Original_URI="/a?b", X_Real_IP="192.0.2.7") == use
    assert asked(X_Forwarded_Method="POST", X_Forwarded_Uri="/a?b", X_Forwarded_For=chain) == use
    assert asked("/authorize/a?b", "POST", X_Forwarded_For=chain) == use
    assert asked() == UNTOLD


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Original_Method": "GET", "X_Forwarded_Method": "POST"},
        {"X_Original_URI": "/a", "X_Forwarded_Uri": "/b"},
        {"X_Real_IP": "192.0.2.7", "X_Forwarded_For": "192.0.2.8"},
        {"X_Original_Method": "G\tET"},
        {"X_Original_URI": "a"},
        {"X_Original_URI": "/a b"},
        {"X_Original_URI": "/\udcff"},
    ],
)
def test_what_is_told_in_two_ways_or_is_unreadable_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(AmbiguousError):
        asked(**headers)


@pytest.mark.parametrize("name", ["Countersign-Asker", "Authorization", "X-Original-URI", "X-Real-IP"])
def test_a_header_that_stands_twice_is_refused(name: str) -> None:
    with pytest.raises(AmbiguousError, match=f"{name} stands 2 times"):
        question("GET", "/authorize", CIMultiDict([(name, "x"), (name, "x")]))


def test_a_method_or_path_that_differs_from_the_prefixed_one_is_refused() -> None:
    for headers in ({"X_Original_URI": "/public"}, {"X_Forwarded_Method": "GET"}):
        with pytest.raises(AmbiguousError):
            asked("/authorize/admin", "POST", **headers)


@pytest.mark.parametrize("target", ["/authorizer", "http://verifier/authorize", "*"])
def test_another_target_is_refused(target: str) -> None:
    with pytest.raises(AmbiguousError):
        asked(target)


@pytest.mark.parametrize(
    "path",
    [
        "/public/../admin", "/public/..", "/./admin", "/.", "/public/%2e%2e/admin", "/public/.%2E/admin",
        "/public%2f..%2fadmin", "/public\\..\\admin", "/public/..;/admin", "/public/..%3b/admin",
        "/public%5c..%5cadmin",
    ],
)  # fmt: skip
def test_a_path_that_servers_read_in_different_ways_is_refused(path: str) -> None:
    for target, headers in (("/authorize", {"X_Original_URI": path}), (f"/authorize{path}", {})):
        with pytest.raises(AmbiguousError):
            asked(target, **headers)


@pytest.mark.parametrize(
    "path", ["/", "*", "/a..b/.well-known/x...", "/caf\u00e9", "/group%2fname", "/a//b", "/..a/b.."]
)
def test_an_ordinary_path_is_told_as_it_is(path: str) -> None:
    assert asked(X_Original_URI=path).path == path
