"""Who is given credentials, and who is not."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from countersign.registry import errors
from countersign.registry.client import Access
from countersign.registry.credentials import Credential
from countersign.registry.fairness import Share
from countersign.trust.images.reference import ImageReference
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.registry.conftest import ClientMaker

WRONG = Credential("robot", "old password")
RIGHT = Credential("robot", "new password")


@pytest.fixture
async def registry(ca: CertificateAuthority) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(ca) as fake:
        fake.put_image("team/app", "v1", "v2")
        yield fake


def access(*credentials: Credential) -> Access:
    return Access(Share("team-a"), credentials)


def image(registry: FakeRegistry) -> ImageReference:
    return ImageReference.parse(f"{registry.host}/team/app:v1")


def authorizations(registry: FakeRegistry) -> set[str]:
    return {seen.authorization for seen in registry.seen if seen.authorization}


async def test_basic_credentials_are_tried_in_order_and_the_one_that_works_is_remembered(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.basic = {"robot:new password"}
    async with client_for(registry.host) as client:
        await client.resolve(image(registry), access(WRONG, RIGHT))
        sent = [seen.authorization for seen in registry.seen]
        assert sent == [None, WRONG.basic, RIGHT.basic]
        await client.resolve(image(registry), access(WRONG, RIGHT))
        assert [seen.authorization for seen in registry.seen[3:]] == [RIGHT.basic]


async def test_what_one_namespaces_credentials_opened_stays_closed_to_another(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.basic = {"robot:new password"}
    registry.bearer = "opened"
    async with client_for(registry.host) as client:
        await client.resolve(image(registry), access(RIGHT))
        for credentials in ((), (WRONG,)):
            with pytest.raises(errors.UnauthorizedError):
                await client.resolve(image(registry), access(*credentials))


async def test_without_credentials_a_password_is_asked_for_in_the_message(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.basic = {"robot:new password"}
    async with client_for(registry.host) as client:
        with pytest.raises(errors.UnauthorizedError, match="image pull secret") as refusal:
            await client.resolve(image(registry), access())
    assert not refusal.value.transient


async def test_no_message_shows_a_password(registry: FakeRegistry, client_for: ClientMaker) -> None:
    registry.basic = {"robot:new password"}
    async with client_for(registry.host) as client:
        with pytest.raises(errors.UnauthorizedError) as refusal:
            await client.resolve(image(registry), access(WRONG))
    assert WRONG.password not in f"{refusal.value} {refusal.value!r} {WRONG!r}"


async def test_a_token_is_fetched_once_for_pulling_only_and_used_again(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.bearer = "t0ken"
    async with client_for(registry.host) as client:
        await client.resolve(image(registry), access())
        await client.resolve(image(registry), access())
    assert registry.paths == [
        "HEAD /v2/team/app/manifests/v1",
        "GET /token?service=fake,+inc.&scope=repository:any:pull",
        "HEAD /v2/team/app/manifests/v1",
        "HEAD /v2/team/app/manifests/v1",
    ]


async def test_a_token_that_ends_at_once_is_not_kept(registry: FakeRegistry, client_for: ClientMaker) -> None:
    registry.bearer = "t0ken"
    registry.token_answer = {"expires_in": 5}
    async with client_for(registry.host) as client:
        await client.resolve(image(registry), access())
        await client.resolve(image(registry), access())
    assert sum(path.startswith("GET /token") for path in registry.paths) == 2


async def test_a_token_that_was_withdrawn_is_replaced(registry: FakeRegistry, client_for: ClientMaker) -> None:
    registry.bearer = "first"
    async with client_for(registry.host) as client:
        await client.resolve(image(registry), access())
        registry.bearer = "second"
        await client.resolve(image(registry), access())
    assert "Bearer second" in authorizations(registry)


async def test_credentials_are_given_to_the_registrys_own_token_service(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.bearer = "t0ken"
    registry.basic = {"robot:new password"}
    async with client_for(registry.host) as client:
        await client.resolve(image(registry), access(WRONG, RIGHT))
    assert authorizations(registry) == {WRONG.basic, RIGHT.basic, "Bearer t0ken"}


async def test_credentials_are_not_given_to_a_foreign_token_service(
    ca: CertificateAuthority, registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async with FakeRegistry(ca) as thief:
        thief.bearer = registry.bearer = "t0ken"
        registry.realm = f"https://localhost:{thief.host.partition(':')[2]}/token"
        async with client_for(registry.host, thief.host, "localhost") as client:
            with pytest.raises(errors.UnauthorizedError, match="list localhost as a token realm"):
                await client.resolve(image(registry), access(RIGHT))
            assert thief.seen == []
            # Without credentials there is nothing to steal: public registries may keep their token service elsewhere.
            await client.resolve(image(registry), access())
        async with client_for(registry.host, "localhost", token_realms={"127.0.0.1": ("localhost",)}) as client:
            await client.resolve(image(registry), access(RIGHT))
            assert RIGHT.basic in authorizations(thief)


@pytest.mark.parametrize(
    "realm",
    ["", "nonsense", "http://127.0.0.1/token", "ftp://127.0.0.1/token", "https://user:secret@127.0.0.1/", "http://["],
)
async def test_a_token_service_that_is_no_https_url_is_refused(
    registry: FakeRegistry, client_for: ClientMaker, realm: str
) -> None:
    async def challenge(_: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    registry.misbehave = challenge
    async with client_for(registry.host) as client:
        with pytest.raises(errors.UnauthorizedError):
            await client.resolve(image(registry), access(RIGHT))
    assert authorizations(registry) == set()


@pytest.mark.parametrize(
    "answer",
    [{"token": ""}, {"token": "a\r\nX-Evil: 1"}, {"token": 3}, {"token": "x" * 40_000}, {"token": "é"}, {}],
)
async def test_a_token_answer_without_a_usable_token_is_refused(
    registry: FakeRegistry, client_for: ClientMaker, answer: dict[str, object]
) -> None:
    registry.bearer = "t0ken"

    async def bad_token(request: web.Request) -> web.Response | None:
        return web.json_response(answer) if request.path == "/token" else None

    registry.misbehave = bad_token
    async with client_for(registry.host) as client:
        with pytest.raises(errors.MalformedError):
            await client.resolve(image(registry), access())


async def test_an_oversize_token_answer_is_not_read(registry: FakeRegistry, client_for: ClientMaker) -> None:
    registry.bearer = "t0ken"

    async def flood(request: web.Request) -> web.Response | None:
        return web.Response(body=b"x" * 1_000_000) if request.path == "/token" else None

    registry.misbehave = flood
    async with client_for(registry.host) as client:
        with pytest.raises(errors.TooLargeError):
            await client.resolve(image(registry), access())


async def test_a_redirect_to_another_host_does_not_carry_the_credentials(
    ca: CertificateAuthority, registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.basic = {"robot:new password"}
    blob = b"signature"
    async with FakeRegistry(ca) as elsewhere:
        digest = elsewhere.put_blob(blob)

        async def redirect(request: web.Request) -> web.Response | None:
            if "/blobs/" in request.path and request.headers.get("Authorization") == RIGHT.basic:
                # As it is written: the framework's own redirect would quote it anew.
                location = f"{elsewhere.url}/v2/x/blobs/{digest}?sig=a%2Fb%2Bc"
                return web.Response(status=307, headers={"Location": location})
            return None

        registry.misbehave = redirect
        async with client_for(registry.host, elsewhere.host) as client:
            assert await client.blob(image(registry), digest, access(RIGHT)) == blob
        assert [seen.authorization for seen in elsewhere.seen] == [None]
        assert elsewhere.seen[0].path.endswith("?sig=a%2Fb%2Bc")


async def test_a_redirect_on_the_same_host_keeps_the_credentials(
    registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.basic = {"robot:new password"}
    digest = registry.put_blob(b"content")

    async def redirect(request: web.Request) -> web.Response | None:
        if request.path.startswith("/v2/team") and request.headers.get("Authorization"):
            raise web.HTTPFound(f"/v2/moved/blobs/{digest}")
        return None

    registry.misbehave = redirect
    async with client_for(registry.host) as client:
        assert await client.blob(image(registry), digest, access(RIGHT)) == b"content"


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://127.0.0.1:80/plain", "plain HTTP"),
        ("ftp://127.0.0.1/file", "not followed"),
        ("https://user:secret@127.0.0.1/", "not followed"),
        ("/again", "more than 5 times"),
        ("https://[bad", "no URL"),
    ],
)
async def test_redirects_of_a_bad_kind_are_refused(
    registry: FakeRegistry, client_for: ClientMaker, location: str, says: str
) -> None:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    registry.misbehave = redirect
    async with client_for("127.0.0.1") as client:
        with pytest.raises(errors.MalformedError, match=says):
            await client.resolve(image(registry), access(RIGHT))
    assert authorizations(registry) == set()


async def test_https_is_never_left_for_http_even_at_a_host_that_is_listed_as_insecure(
    ca: CertificateAuthority, registry: FakeRegistry, client_for: ClientMaker
) -> None:
    async with FakeRegistry(ca, plain_http=True) as plain:

        async def redirect(_: web.Request) -> web.Response:
            raise web.HTTPFound(f"{plain.url}/v2/team/app/manifests/v1")

        registry.misbehave = redirect
        async with client_for(registry.host, plain.host, insecure=(plain.host,)) as client:
            with pytest.raises(errors.MalformedError, match="plain HTTP"):
                await client.resolve(image(registry), access())
        assert plain.seen == []


async def test_a_next_page_elsewhere_is_not_asked_for_with_the_credentials(
    ca: CertificateAuthority, registry: FakeRegistry, client_for: ClientMaker
) -> None:
    registry.basic = {"robot:new password"}
    digest = "sha256:" + "ab" * 32
    async with FakeRegistry(ca) as thief:

        async def redirect(request: web.Request) -> web.Response | None:
            if "/referrers/" in request.path and request.headers.get("Authorization"):
                raise web.HTTPFound(f"{thief.url}/v2/team/app/referrers/{digest}")
            return None

        async def next_page(_: web.Request) -> web.Response:
            return web.json_response(
                {"schemaVersion": 2, "manifests": []},
                content_type="application/vnd.oci.image.index.v1+json",
                headers={"Link": '</v2/team/app/referrers/more>; rel="next"'},
            )

        registry.misbehave, thief.misbehave = redirect, next_page
        async with client_for(registry.host, thief.host) as client:
            assert await client.referrers(image(registry), digest, access(RIGHT)) == ()
        assert authorizations(thief) == set()
