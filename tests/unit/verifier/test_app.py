"""The HTTP side: RFC 7662's form, the same bytes for everyone who may not know, and no more than that on bad input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from countersign.cluster.cache import Key
from tests.unit.access import cases
from tests.unit.verifier.world import World, asker_token, sign, token

FORM = "application/x-www-form-urlencoded"
INACTIVE = b'{"active": false}'
ASKER = f"Bearer {asker_token()}"

Post = Callable[..., Awaitable[ClientResponse]]


@pytest.fixture
def world() -> World:
    return World(rate=1000.0, burst=1000).settle()


@pytest.fixture
async def post(world: World) -> AsyncIterator[Post]:
    async with TestClient(TestServer(world.app.application)) as client:

        async def send(
            body: bytes | str, *, asker: str = ASKER, path: str = "/introspect", content_type: str = FORM
        ) -> ClientResponse:
            headers = {"Content-Type": content_type, **({"Authorization": asker} if asker else {})}
            return await client.post(path, data=body, headers=headers)

        yield send


def counted(world: World, name: str, **labels: str) -> float:
    return world.registry.get_sample_value(f"countersign_verifier_{name}_total", labels) or 0.0


async def test_an_active_token_is_told_with_its_evidence(post: Post, world: World) -> None:
    answer = await post(f"token={token()}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = await answer.json()
    assert body["active"] is True
    assert body["countersign.dev"]["grant"] == {"name": "wg-1", "state": "Active"}
    assert counted(world, "decisions", endpoint="introspect", result="active", reason="Active") == 1


@pytest.mark.parametrize(
    "body",
    [
        f"token={token()}&token_type_hint=access_token",
        f"token_type_hint=access_token&token={token()}",
        f"token={quote(token(), safe='')}".replace(".", "%2E"),
    ],
)
async def test_a_hint_and_percent_encoding_change_nothing(post: Post, body: str) -> None:
    assert (await (await post(body)).json())["active"] is True


async def test_everyone_who_may_not_know_gets_the_same_bytes(post: Post, world: World) -> None:
    world.put_pod(cases.pod(name="ended", uid="ended", phase="Failed"))
    private = {
        "namespace": "payments",
        "serviceaccount": {"name": "api", "uid": "sa-uid"},
        "pod": {"name": "ended", "uid": "ended"},
        "node": {"name": "n1"},
    }
    answers = [
        await post(f"token={token()}", asker=""),
        await post(f"token={token()}", asker="Bearer junk"),
        await post(f"token={token()}", asker=f"Bearer {asker_token('evil', 'x')}"),
        await post(f"token={token(kubernetes=private)}"),
        await post(f"token={token(aud=['x'])}"),
        await post("token=junk"),
        await post("token="),
        await post(f"token={sign({'a': 'b'})}"),
        await post(f"token={'x' * 10000}"),
        await post(f"token={token()}", path="/explain"),
    ]
    seen = [
        (answer.status, await answer.read(), {k: v for k, v in answer.headers.items() if k != "Date"})
        for answer in answers
    ]
    assert all(one == seen[0] for one in seen)
    assert seen[0][:2] == (200, INACTIVE)


@pytest.mark.parametrize("asker", [ASKER, "", "Bearer junk"])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"tok=x", FORM),
        (b"token=a&token=b", FORM),
        (b"\xff\xfe", FORM),
        (b"&".join([b"a=b"] * 9), FORM),
        (b'{"token": "x"}', "application/json"),
        (b"token=x", "text/plain"),
        (b"token=x", "x" * 100),
    ],
)
async def test_what_is_no_form_with_one_token_is_400_whoever_sends_it(
    post: Post, body: bytes, content_type: str, asker: str
) -> None:
    answer = await post(body, asker=asker, content_type=content_type)
    assert (answer.status, await answer.read()) == (400, b'{"error": "invalid_request"}')


async def test_a_body_beyond_the_limit_is_413(post: Post) -> None:
    assert (await post(b"token=" + b"x" * 17000)).status == 413


@pytest.mark.parametrize("path", ["/", "/introspect/", "/metrics", "/healthz"])
async def test_nothing_else_is_served_here(post: Post, path: str) -> None:
    assert (await post("token=x", path=path)).status == 404


async def test_stale_is_503_with_retry_after_and_without_a_verdict(post: Post, world: World) -> None:
    world.pass_time(16, beating=False)
    answer = await post(f"token={token()}")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert b"active" not in await answer.read()
    assert counted(world, "turned_away", code="503", reason="NotFresh") == 1


async def test_over_the_limit_is_429_with_retry_after(post: Post, world: World) -> None:
    limited = World(rate=0.1, burst=1).settle()
    async with TestClient(TestServer(limited.app.application)) as client:
        headers = {"Content-Type": FORM, "Authorization": ASKER}
        assert (await client.post("/introspect", data=f"token={token()}", headers=headers)).status == 200
        answer = await client.post("/introspect", data=f"token={token()}", headers=headers)
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert world.rate != limited.rate


async def test_a_defect_is_503_and_never_active(post: Post, world: World) -> None:
    world.review_error = RuntimeError("defect")
    answer = await post(f"token={token()}")
    assert answer.status == 503
    assert b"active" not in await answer.read()


async def test_the_reason_is_told_at_explain_only(post: Post, world: World) -> None:
    world.may_explain = True
    world.put_pod(cases.pod(phase="Failed"))
    told = await (await post(f"token={token()}", path="/explain")).json()
    assert (told["active"], told["reason"]) == (False, "PodTerminal")
    assert "has ended" in told["message"]
    assert await (await post(f"token={token()}")).read() == INACTIVE


async def test_an_active_token_is_explained_with_what_a_relying_party_sees(post: Post, world: World) -> None:
    world.may_explain = True
    told = await (await post(f"token={token()}", path="/explain")).json()
    assert (told["active"], told["reason"]) == (True, "Active")
    assert told["introspection"]["aud"] == "ledger.example.com"


async def test_a_draining_verifier_sends_its_clients_elsewhere(post: Post, world: World) -> None:
    world.app.draining = True
    answer = await post(f"token={token()}")
    assert answer.headers["Connection"] == "close"


async def test_a_client_that_dawdles_is_cut_off(world: World) -> None:
    async with TestServer(world.app.application) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 9\r\n\r\ntok".encode()
        )
        assert await asyncio.wait_for(reader.read(), 4) == b""
        writer.close()


async def test_more_at_once_than_there_is_room_for_is_503(post: Post, world: World) -> None:
    world.pods.remove(Key("payments", "api-7d9c"))
    slow = asyncio.Event()

    world.hang = slow
    asked = [asyncio.ensure_future(post(f"token={token()}")) for _ in range(4)]
    while len(world.reads) < 1:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    answer = await post(f"token={token()}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    slow.set()
    assert [(await one).status for one in asked] == [200] * 4
