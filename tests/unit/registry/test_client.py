"""The registry client against a real HTTPS server, well-behaved and not."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from countersign.registry import errors
from countersign.registry.client import MAX_REFERRER_PAGES, Access, referrers_tag
from countersign.registry.credentials import Credential
from countersign.registry.fairness import Share
from countersign.registry.manifest import digest_of
from countersign.trust.images.reference import ImageReference
from tests.fakes.registry import OCI_INDEX, FakeRegistry, index, manifest
from tests.lab.pki import CertificateAuthority
from tests.unit.registry.conftest import PATIENCE, ClientMaker

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
async def registry(ca: CertificateAuthority) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(ca) as fake:
        yield fake


def anyone() -> Access:
    return Access(Share("team-a"))


def for_seconds(seconds: float) -> Access:
    """On behalf of somebody who waits no longer than that."""
    return Access(Share("team-a", asyncio.get_running_loop().time() + seconds))


def image(registry: FakeRegistry, rest: str = "team/app:v1") -> ImageReference:
    return ImageReference.parse(f"{registry.host}/{rest}")


# Resolving a tag


async def test_a_tag_is_resolved_with_one_head(registry: FakeRegistry, client_for: ClientMaker) -> None:
    digest = registry.put_image("team/app", "v1")
    async with client_for(registry.host) as client:
        assert (await client.resolve(image(registry), anyone())).digest == digest
    assert registry.paths == ["HEAD /v2/team/app/manifests/v1"]


async def test_a_digest_is_taken_as_it_is_without_asking(registry: FakeRegistry, client_for: ClientMaker) -> None:
    async with client_for() as client:
        resolved = await client.resolve(image(registry, f"team/app:v1@{DIGEST}"), anyone())
    assert resolved.digest == DIGEST
    assert registry.seen == []


@pytest.mark.parametrize("status", [200, 405])
async def test_where_head_tells_no_digest_it_is_computed_over_the_manifest(
    registry: FakeRegistry, client_for: ClientMaker, status: int
) -> None:
    digest = registry.put_image("team/app", "v1")

    async def no_digest_on_head(request: web.Request) -> web.Response | None:
        return web.Response(status=status) if request.method == "HEAD" else None

    registry.misbehave = no_digest_on_head
    async with client_for(registry.host) as client:
        resolved = await client.resolve(image(registry), anyone())
    assert resolved.digest == digest
    assert resolved.manifest is not None


async def test_a_missing_tag_is_not_found_and_will_not_be_retried(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async with client_for(registry.host) as client:
        with pytest.raises(errors.NotFoundError, match=r"no image .*app:v1") as refusal:
            await client.resolve(image(registry), anyone())
    assert not refusal.value.transient


# Content and digests


async def test_a_manifest_whose_bytes_have_another_digest_is_refused(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")
    other = registry.put_image("team/app", "v2", entrypoint=["/evil"])

    async def lie(request: web.Request) -> web.Response | None:
        if request.path.endswith(digest):
            raise web.HTTPTemporaryRedirect(f"/v2/team/app/manifests/{other}")
        return None

    registry.misbehave = lie
    async with client_for(registry.host) as client:
        with pytest.raises(errors.MalformedError, match="content of digest"):
            await client.manifest(image(registry), digest, anyone())


async def test_a_manifest_that_belies_the_digest_header_is_refused(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async def lie(_: web.Request) -> web.Response:
        return web.Response(body=b"{}", headers={"Docker-Content-Digest": DIGEST})

    registry.misbehave = lie
    async with client_for(registry.host) as client:
        with pytest.raises(errors.MalformedError, match="content of digest"):
            await client.tagged_manifest(image(registry), "v1", anyone())


async def test_a_blob_with_other_bytes_is_refused(registry: FakeRegistry, client_for: ClientMaker) -> None:
    async def lie(_: web.Request) -> web.Response:
        return web.Response(body=b"something else")

    registry.misbehave = lie
    async with client_for(registry.host) as client:
        with pytest.raises(errors.MalformedError, match="content of digest"):
            await client.blob(image(registry), DIGEST, anyone())


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversize_answer_is_not_read(registry: FakeRegistry, client_for: ClientMaker, chunked: bool) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if not chunked:
            response.content_length = 100_000_000
        await response.prepare(request)
        try:
            while sent < 100_000_000:
                await response.write(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            pass
        return response

    registry.misbehave = flood
    async with client_for(registry.host) as client:
        with pytest.raises(errors.TooLargeError):
            await client.blob(image(registry), DIGEST, anyone(), limit=1000)
    assert sent < 20_000_000


async def test_a_large_blob_is_in_memory_once(registry: FakeRegistry, client_for: ClientMaker) -> None:
    """A copy of it would hold the event loop as well."""
    piece, pieces = b"x" * 65536, 384
    digest = digest_of(piece * pieces)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(piece) * pieces
        await response.prepare(request)
        for _ in range(pieces):
            await response.write(piece)
        return response

    registry.misbehave = stream
    async with client_for(registry.host) as client:
        tracemalloc.start()
        try:
            data = await client.blob(image(registry), digest, anyone(), limit=len(piece) * pieces)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(data) == len(piece) * pieces
    assert most < 1.6 * len(data)


async def test_compressed_content_is_refused_rather_than_unpacked(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async def bomb(_: web.Request) -> web.Response:
        response = web.Response(body=b"0" * 100)
        response.headers["Content-Encoding"] = "gzip"
        return response

    registry.misbehave = bomb
    async with client_for(registry.host) as client:
        with pytest.raises(errors.MalformedError, match="compressed"):
            await client.blob(image(registry), DIGEST, anyone())


# Referrers


@pytest.mark.parametrize("referrers_api", [True, False])
async def test_referrers_are_listed_by_the_api_or_under_the_fallback_tag(
    ca: CertificateAuthority, client_for: ClientMaker, referrers_api: bool
) -> None:
    async with FakeRegistry(ca, referrers_api=referrers_api) as registry, client_for(registry.host) as client:
        digest = registry.put_image("team/app", "v1")
        attached = registry.attach("team/app", digest, manifest(digest_of(b"{}")))
        listed = await client.referrers(image(registry), digest, anyone())
        assert [descriptor.digest for descriptor in listed] == [attached]
        assert await client.referrers(image(registry), DIGEST, anyone()) == ()


async def test_an_answer_of_the_api_that_is_no_index_leads_to_the_fallback_tag(
    ca: CertificateAuthority, client_for: ClientMaker
) -> None:
    async def web_page(request: web.Request) -> web.Response | None:
        return web.Response(text="<html>", content_type="text/html") if "/referrers/" in request.path else None

    async with FakeRegistry(ca, referrers_api=False) as registry, client_for(registry.host) as client:
        registry.misbehave = web_page
        digest = registry.put_image("team/app")
        attached = registry.attach("team/app", digest, manifest(digest_of(b"{}")))
        listed = await client.referrers(image(registry), digest, anyone())
        assert [descriptor.digest for descriptor in listed] == [attached]


@pytest.mark.parametrize("status", [500, 503, 403])
async def test_an_api_that_cannot_answer_is_not_taken_for_no_referrers(
    registry: FakeRegistry, client_for: ClientMaker, status: int
) -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=status)

    registry.misbehave = fail
    async with client_for(registry.host) as client:
        with pytest.raises(errors.RegistryError):
            await client.referrers(image(registry), DIGEST, anyone())


@pytest.mark.parametrize("elsewhere", ["https://elsewhere.example.com/", "0:", "https://[", "mailto:a@b"])
async def test_pages_are_followed_on_the_registry_only(
    registry: FakeRegistry, client_for: ClientMaker, elsewhere: str
) -> None:
    digests = [digest_of(str(number).encode()) for number in range(3)]

    async def pages(request: web.Request) -> web.Response:
        number = int(request.query.get("page", "0"))
        link = f'</v2/team/app/referrers/{DIGEST}?page={number + 1}>; rel="next"'
        if number == 2:
            link = f'<{elsewhere}>; rel="next"'
        content = index([{"mediaType": OCI_INDEX, "digest": digests[number], "size": 1}])
        return web.json_response(content, content_type=OCI_INDEX, headers={"Link": link})

    registry.misbehave = pages
    async with client_for(registry.host) as client:
        listed = await client.referrers(image(registry), DIGEST, anyone())
    assert [descriptor.digest for descriptor in listed] == digests
    assert len(registry.seen) == 3


async def test_a_list_without_an_end_is_followed_so_far_and_no_farther(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async def pages(request: web.Request) -> web.Response:
        number = int(request.query.get("page", "0"))
        content = index([{"mediaType": OCI_INDEX, "digest": digest_of(str(number).encode()), "size": 1}])
        link = f'</v2/team/app/referrers/{DIGEST}?page={number + 1}>; rel="next"'
        return web.json_response(content, content_type=OCI_INDEX, headers={"Link": link})

    registry.misbehave = pages
    async with client_for(registry.host) as client:
        listed = await client.referrers(image(registry), DIGEST, anyone())
    assert len(listed) == len(registry.seen) == MAX_REFERRER_PAGES


def test_the_fallback_tag_follows_the_specification() -> None:
    assert referrers_tag(DIGEST) == "sha256-" + "ab" * 32
    assert referrers_tag("sha512:" + "ab" * 64) == "sha512-" + "ab" * 32


# Errors


async def test_a_rate_limit_is_transient_tells_the_wait_and_keeps_us_from_asking_again(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async def limit(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "7"})

    registry.misbehave = limit
    async with client_for(registry.host) as client:
        with pytest.raises(errors.RateLimitedError, match="wait 7 s") as refusal:
            await client.resolve(image(registry), for_seconds(5))
        assert refusal.value.transient
        assert refusal.value.retry_after == 7
        with pytest.raises(errors.RateLimitedError):
            await client.resolve(image(registry, "team/other:v1"), for_seconds(5))
        assert len(registry.seen) == 1

        registry.misbehave = None
        registry.put_image("team/app", "v1")
        other_account = Access(Share("team-b"), (Credential("other", "account"),))
        await client.resolve(image(registry), other_account)


async def test_a_server_error_is_transient(registry: FakeRegistry, client_for: ClientMaker) -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=503)

    registry.misbehave = fail
    async with client_for(registry.host) as client:
        with pytest.raises(errors.RegistryUnavailableError) as refusal:
            await client.resolve(image(registry), anyone())
    assert refusal.value.transient
    assert len(registry.seen) == PATIENCE.tries


async def test_a_registry_that_hangs_times_out(registry: FakeRegistry, client_for: ClientMaker) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    registry.misbehave = hang
    async with client_for(registry.host, request_seconds=0.2) as client:
        with pytest.raises(errors.RegistryTimeoutError, match="did not answer"):
            await client.resolve(image(registry), anyone())


async def test_a_reset_connection_is_tried_again_a_bounded_number_of_times(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    digest = registry.put_image("team/app", "v1")
    resets = 1

    async def reset(request: web.Request) -> web.Response | None:
        nonlocal resets
        resets -= 1
        if resets >= 0:
            assert request.transport is not None
            request.transport.abort()
        return None

    registry.misbehave = reset
    async with client_for(registry.host) as client:
        assert (await client.resolve(image(registry), anyone())).digest == digest
        resets = 100
        seen = len(registry.seen)
        with pytest.raises(errors.RegistryUnavailableError):
            await client.resolve(image(registry), anyone())
        # aiohttp itself repeats a request once on a kept connection that turns out to be closed.
        assert PATIENCE.tries <= len(registry.seen) - seen <= 2 * PATIENCE.tries


async def test_nobody_listening_is_transient(client_for: ClientMaker) -> None:
    async with client_for("127.0.0.1") as client:
        with pytest.raises(errors.RegistryUnavailableError, match="no connection to"):
            await client.resolve(ImageReference.parse("127.0.0.1:1/app:v1"), anyone())


async def test_a_name_that_does_not_resolve_is_told_so(client_for: ClientMaker) -> None:
    async with client_for() as client:
        with pytest.raises(errors.RegistryUnavailableError, match="cannot be resolved"):
            await client.resolve(ImageReference.parse("registry.invalid/app:v1"), anyone())


async def test_a_certificate_that_nobody_vouches_for_is_refused_with_the_way_out(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async with client_for(registry.host, trusted=False) as client:
        with pytest.raises(errors.RegistryUnavailableError, match="add its CA") as refusal:
            await client.resolve(image(registry), anyone())
    assert not refusal.value.transient
    assert registry.seen == []


async def test_plain_http_is_spoken_with_listed_hosts_only(ca: CertificateAuthority, client_for: ClientMaker) -> None:
    async with FakeRegistry(ca, plain_http=True) as registry:
        digest = registry.put_image("team/app", "v1")
        async with client_for(registry.host, insecure=(registry.host,)) as client:
            assert (await client.resolve(image(registry), anyone())).digest == digest
        async with client_for(registry.host) as client:
            with pytest.raises(errors.RegistryUnavailableError):
                await client.resolve(image(registry), anyone())


# Addresses


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:5000", "169.254.169.254", "[::1]:5000", "[fe80::1]", "[::]", "localhost:5000", "2130706433:80"],
)
async def test_addresses_of_the_node_and_of_the_cloud_are_not_contacted(client_for: ClientMaker, host: str) -> None:
    async with client_for() as client:
        with pytest.raises((errors.AddressDeniedError, errors.MalformedError)):
            await client.resolve(ImageReference.parse(f"{host}/app:v1"), anyone())


async def test_a_redirect_to_a_denied_address_is_not_followed(registry: FakeRegistry, client_for: ClientMaker) -> None:
    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("https://169.254.169.254/latest/meta-data")

    registry.misbehave = redirect
    async with client_for(registry.host) as client:
        with pytest.raises(errors.AddressDeniedError, match="link-local"):
            await client.blob(image(registry), DIGEST, anyone())
