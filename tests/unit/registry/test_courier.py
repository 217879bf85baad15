"""What is sent again, and what is not; how long is waited; when a host is left alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from countersign.registry import errors
from countersign.registry.circuits import MAX_FAILURES
from countersign.registry.client import Access
from countersign.registry.courier import Patience
from countersign.registry.credentials import Credential
from countersign.registry.fairness import Share
from countersign.registry.observer import RequestKind, RequestOutcome
from countersign.trust.images.reference import ImageReference
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.registry.conftest import ClientMaker

QUICK = Patience(tries=8, first_wait=0.001, longest_wait=0.002)


@pytest.fixture
async def registry(ca: CertificateAuthority) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(ca) as fake:
        yield fake


def image(registry: FakeRegistry, rest: str = "team/app:v1") -> ImageReference:
    return ImageReference.parse(f"{registry.host}/{rest}")


def within(seconds: float, namespace: str = "team-a", *credentials: Credential) -> Access:
    return Access(Share(namespace, asyncio.get_running_loop().time() + seconds), credentials)


def first(count: int, status: int, **headers: str) -> Callable[[web.Request], Awaitable[web.Response | None]]:
    """Misbehaviour: the first `count` requests get this status."""
    left = count

    async def misbehave(_: web.Request) -> web.Response | None:
        nonlocal left
        left -= 1
        return web.Response(status=status, headers=headers) if left >= 0 else None

    return misbehave


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[RequestKind, RequestOutcome]] = []
        self.retries = 0
        self.opened = 0
        self.open_now = 0

    def requested(self, kind: RequestKind, outcome: RequestOutcome, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append((kind, outcome))

    def retried(self, kind: RequestKind) -> None:
        self.retries += 1

    def circuits(self, opened: int, open_now: int) -> None:
        self.opened += opened
        self.open_now = open_now


@pytest.mark.parametrize("status", [429, 408, 500, 502, 503, 504])
async def test_what_may_mend_is_tried_again(registry: FakeRegistry, client_for: ClientMaker, status: int) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.misbehave = first(3, status)
    recorder = Recorder()
    async with client_for(registry.host, patience=QUICK, observer=recorder) as client:
        assert (await client.resolve(image(registry), within(5))).digest == digest
    assert len(registry.seen) == 4
    assert recorder.retries == 3
    assert recorder.outcomes[-1] == ("resolve", "ok")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
async def test_a_refusal_is_not_tried_again(registry: FakeRegistry, client_for: ClientMaker, status: int) -> None:
    registry.misbehave = first(100, status)
    async with client_for(registry.host, patience=QUICK) as client:
        with pytest.raises(errors.RegistryError):
            await client.manifest(image(registry), "sha256:" + "ab" * 32, within(5))
    assert len(registry.seen) == 1


async def test_a_registry_that_turns_half_of_all_requests_away_still_answers(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")
    asked = 0

    async def every_second(_: web.Request) -> web.Response | None:
        nonlocal asked
        asked += 1
        return web.Response(status=429) if asked % 2 else None

    registry.misbehave = every_second
    async with client_for(registry.host, patience=QUICK) as client:
        found = await asyncio.gather(*(client.resolve(image(registry), within(5)) for _ in range(20)))
    assert {one.digest for one in found} == {digest}


async def test_a_retry_after_that_fits_is_waited_for_by_everybody_of_the_account(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.misbehave = first(1, 429, **{"Retry-After": "1"})
    loop = asyncio.get_running_loop()
    async with client_for(registry.host, patience=QUICK) as client:
        started = loop.time()
        one = asyncio.create_task(client.resolve(image(registry), within(30)))
        while not registry.seen:
            await asyncio.sleep(0.001)
        other = await client.resolve(image(registry), within(30))
        assert (await one).digest == other.digest == digest
        assert loop.time() - started >= 1
    assert len(registry.seen) == 3


async def test_a_retry_after_beyond_the_deadline_is_told_at_once(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.misbehave = first(100, 429, **{"Retry-After": "20"})
    async with client_for(registry.host, patience=QUICK) as client:
        with pytest.raises(errors.RateLimitedError, match="wait 20 s"):
            await client.resolve(image(registry), within(8))
        with pytest.raises(errors.RateLimitedError, match=r"wait (20|19) s more"):
            await client.resolve(image(registry), within(8))
    assert len(registry.seen) == 1


async def test_one_connection_that_hangs_does_not_use_up_all_the_time(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")
    hanging = 1

    async def hang(_: web.Request) -> None:
        nonlocal hanging
        hanging -= 1
        if hanging >= 0:
            await asyncio.sleep(60)

    registry.misbehave = hang
    async with client_for(registry.host, patience=QUICK, request_seconds=60.0) as client:
        assert (await client.resolve(image(registry), within(4))).digest == digest


async def test_a_token_service_is_asked_again_as_well(registry: FakeRegistry, client_for: ClientMaker) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.bearer = "secret-token"
    failing = first(2, 503)

    async def fail_tokens(request: web.Request) -> web.Response | None:
        return await failing(request) if request.path == "/token" else None

    registry.misbehave = fail_tokens
    recorder = Recorder()
    async with client_for(registry.host, patience=QUICK, observer=recorder) as client:
        assert (await client.resolve(image(registry), within(5))).digest == digest
    assert recorder.outcomes == [
        ("resolve", "unauthorized"),
        ("token", "unavailable"),
        ("token", "unavailable"),
        ("token", "ok"),
        ("resolve", "ok"),
    ]


async def test_the_next_credential_is_tried_where_the_first_account_is_told_that_there_is_nothing(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")
    blind, seeing = Credential("blind", "1"), Credential("seeing", "2")
    registry.basic = {"blind:1", "seeing:2"}

    async def hide(request: web.Request) -> web.Response | None:
        return web.Response(status=404) if request.headers.get("Authorization") == blind.basic else None

    registry.misbehave = hide
    async with client_for(registry.host, patience=QUICK) as client:
        assert (await client.resolve(image(registry), within(5, "team-a", blind, seeing))).digest == digest
        registry.seen.clear()
        assert (await client.resolve(image(registry), within(5, "team-a", blind, seeing))).digest == digest
        assert [seen.authorization for seen in registry.seen] == [seeing.basic]
        with pytest.raises(errors.NotFoundError):
            await client.resolve(image(registry), within(5, "team-a", blind))


@pytest.mark.parametrize("order", ["seeing first", "blind first"])
@pytest.mark.parametrize("other", [404, 403])
async def test_a_tag_that_is_not_there_does_not_tell_which_account_sees_the_repository(
    registry: FakeRegistry, client_for: ClientMaker, order: str, other: int
) -> None:
    digest = registry.put_image("team/app", "v1")
    blind, seeing = Credential("blind", "1"), Credential("seeing", "2")
    registry.basic = {"blind:1", "seeing:2"}

    async def hide(request: web.Request) -> web.Response | None:
        return web.Response(status=other) if request.headers.get("Authorization") == blind.basic else None

    registry.misbehave = hide
    both = (seeing, blind) if order == "seeing first" else (blind, seeing)
    async with client_for(registry.host, patience=QUICK) as client:
        assert await client.tagged_manifest(image(registry), "sha256-ab.sig", within(5, "team-a", *both)) is None
        assert (await client.resolve(image(registry), within(5, "team-a", *both))).digest == digest


# A host that does not answer


async def test_a_host_that_fails_in_a_row_is_left_alone_and_the_denial_says_so(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.misbehave = first(1000, 503)
    recorder = Recorder()
    async with client_for(registry.host, patience=QUICK, observer=recorder) as client:
        with pytest.raises(errors.RegistryUnavailableError):
            await client.resolve(image(registry), within(5))
        assert len(registry.seen) == MAX_FAILURES
        for namespace in ("team-a", "team-b", "team-c"):
            with pytest.raises(errors.CircuitOpenError) as refusal:
                await client.resolve(image(registry), within(5, namespace))
            assert refusal.value.transient
            assert str(refusal.value).startswith(f"{registry.host} has not answered since ")
            assert "it answers 503" in str(refusal.value)
            assert "asked again in" in str(refusal.value)
    # The second namespace is not shut out for what the first may have caused: its own request failed once before.
    assert len(registry.seen) == MAX_FAILURES + 1
    assert (recorder.opened, recorder.open_now) == (1, 1)


async def test_one_namespace_cannot_close_a_host_that_answers_others(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")

    async def dead_upstream(request: web.Request) -> web.Response | None:
        return web.Response(status=502) if "/proxy/" in request.path else None

    registry.misbehave = dead_upstream
    async with client_for(registry.host, patience=QUICK) as client:
        with pytest.raises(errors.RegistryUnavailableError):
            await client.resolve(image(registry, "proxy/app:v1"), within(5, "attacker"))
        with pytest.raises(errors.CircuitOpenError):
            await client.resolve(image(registry, "proxy/app:v1"), within(5, "attacker"))
        assert (await client.resolve(image(registry), within(5, "victim"))).digest == digest


async def test_a_host_that_answers_again_is_asked_by_everybody(registry: FakeRegistry, client_for: ClientMaker) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.misbehave = first(MAX_FAILURES, 503)
    recorder = Recorder()
    async with client_for(registry.host, patience=QUICK, observer=recorder) as client:
        with pytest.raises(errors.RegistryUnavailableError):
            await client.resolve(image(registry), within(5))
        async with asyncio.timeout(20):
            while True:
                try:
                    found = await client.resolve(image(registry), within(5))
                except errors.CircuitOpenError:
                    await asyncio.sleep(0.05)
                else:
                    break
        assert found.digest == digest
        assert recorder.open_now == 0
