"""Calls: typed, bounded in time and size, retried only where that is safe."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from countersign.cluster.client import ApiClient, Object
from countersign.cluster.config import ClusterConfig
from countersign.cluster.credentials import trusting
from countersign.cluster.errors import (
    AlreadyExistsError,
    ApiError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    InvalidNameError,
    MalformedAnswerError,
    NotFoundError,
    ServerError,
    TimedOutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from countersign.cluster.resource import CONFIG_MAPS, NAMESPACES, PODS, Resource
from countersign.keys.authority import AuthoritySet, new_authority
from tests.fakes.api_server import FakeApiServer, Fault, status


class Meta(msgspec.Struct):
    name: str


class ConfigMap(msgspec.Struct):
    metadata: Meta
    data: dict[str, str] = {}


async def test_an_object_is_created_read_patched_and_deleted(client: ApiClient) -> None:
    made = await client.create(CONFIG_MAPS, ConfigMap(Meta("a"), {"x": "1"}), namespace="team")
    assert made == ConfigMap(Meta("a"), {"x": "1"})
    assert await client.get(CONFIG_MAPS, "a", ConfigMap, namespace="team") == made
    patched = await client.merge_patch(CONFIG_MAPS, "a", {"data": {"x": None, "y": "2"}}, ConfigMap, namespace="team")
    assert patched.data == {"y": "2"}
    await client.delete(CONFIG_MAPS, "a", namespace="team")
    with pytest.raises(NotFoundError):
        await client.get(CONFIG_MAPS, "a", ConfigMap, namespace="team")


async def test_a_second_object_of_the_same_name_is_told_apart_from_a_conflict(client: ApiClient) -> None:
    await client.create(CONFIG_MAPS, ConfigMap(Meta("a")), namespace="team")
    with pytest.raises(AlreadyExistsError):
        await client.create(CONFIG_MAPS, ConfigMap(Meta("a")), namespace="team")


async def test_an_outdated_replace_is_a_conflict(client: ApiClient, server: FakeApiServer) -> None:
    old = server.put("configmaps", "a", namespace="team")
    server.put("configmaps", "a", namespace="team", data={"x": "1"})
    with pytest.raises(ConflictError):
        await client.replace(CONFIG_MAPS, "a", old, namespace="team")


async def test_a_delete_with_the_uid_of_another_is_a_conflict(client: ApiClient, server: FakeApiServer) -> None:
    server.put("configmaps", "a", namespace="team")
    with pytest.raises(ConflictError):
        await client.delete(CONFIG_MAPS, "a", namespace="team", uid="another")
    assert server.objects


async def test_patches_and_dry_runs_say_what_they_are(client: ApiClient, server: FakeApiServer) -> None:
    server.put("configmaps", "a", namespace="team")
    await client.apply(
        CONFIG_MAPS, "a", {"metadata": {"name": "a"}}, namespace="team", field_manager="countersign", dry_run=True
    )
    assert server.requests[-1] == (
        "PATCH",
        "/api/v1/namespaces/team/configmaps/a",
        {"fieldManager": "countersign", "force": "true", "dryRun": "All"},
    )


async def test_a_list_comes_in_pages(client: ApiClient, server: FakeApiServer) -> None:
    for number in range(7):
        server.put("pods", f"p{number}", namespace="team")
    pages = [page async for page in client.pages(PODS, Object, page_size=3)]
    assert [len(page.items or ()) for page in pages] == [3, 3, 1]
    assert len(await client.list(PODS, Object, namespace="team")) == 7
    assert await client.list(PODS, Object, namespace="other") == []


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (401, "Unauthorized", UnauthorizedError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (409, "Conflict", ConflictError),
        (409, "AlreadyExists", AlreadyExistsError),
        (410, "Expired", GoneError),
        (418, "Teapot", ApiError),
        (422, "Invalid", InvalidError),
        (500, "InternalError", ServerError),
        (302, "", ApiError),
    ],
)
async def test_each_status_has_its_error_with_the_servers_words(
    client: ApiClient, server: FakeApiServer, code: int, reason: str, kind: type[ApiError]
) -> None:
    server.faults.append(Fault(lambda _: True, code, status(code, reason, "because"), {"Location": "https://x.test/"}))
    with pytest.raises(kind) as caught:
        await client.create(CONFIG_MAPS, ConfigMap(Meta("a")), namespace="team")
    assert type(caught.value) is kind
    assert caught.value.message == "because"


async def test_an_error_that_is_no_status_is_quoted_in_part(client: ApiClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(lambda _: True, 403, b"<html>" + b"x" * 10_000))
    with pytest.raises(ForbiddenError) as caught:
        await client.get(PODS, "a", Object, namespace="team")
    assert caught.value.message.startswith("<html>xx")
    assert len(caught.value.message) <= 1024


async def test_a_read_is_retried_over_a_bad_moment(client: ApiClient, server: FakeApiServer) -> None:
    server.put("pods", "a", namespace="team")
    server.faults.append(Fault(lambda _: True, 503, times=1))
    server.faults.append(Fault(lambda _: True, disconnect=True, times=1))
    assert await client.get(PODS, "a", Object, namespace="team")


async def test_a_write_is_never_repeated_unless_the_server_did_nothing(
    client: ApiClient, server: FakeApiServer
) -> None:
    server.faults.append(Fault(lambda _: True, 503))
    with pytest.raises(ServerError):
        await client.create(CONFIG_MAPS, ConfigMap(Meta("a")), namespace="team")
    assert server.counted("POST") == 1
    server.faults.append(Fault(lambda _: True, disconnect=True))
    with pytest.raises(UnreachableError):
        await client.create(CONFIG_MAPS, ConfigMap(Meta("a")), namespace="team")
    assert server.counted("POST") == 2
    server.faults.append(Fault(lambda _: True, 429, headers={"Retry-After": "0"}))
    await client.create(CONFIG_MAPS, ConfigMap(Meta("a")), namespace="team")
    assert server.counted("POST") == 4


async def test_retry_after_is_waited_for(client: ApiClient, server: FakeApiServer) -> None:
    server.put("pods", "a", namespace="team")
    server.faults.append(Fault(lambda _: True, 429, headers={"Retry-After": "1"}))
    started = time.monotonic()
    await client.get(PODS, "a", Object, namespace="team")
    assert time.monotonic() - started >= 1


async def test_a_retry_after_beyond_the_deadline_fails_at_once(client: ApiClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(lambda _: True, 429, headers={"Retry-After": "60"}))
    started = time.monotonic()
    with pytest.raises(TooManyRequestsError) as caught:
        await client.get(PODS, "a", Object, namespace="team", within=30)
    assert caught.value.retry_after == 60
    assert time.monotonic() - started < 15


async def test_a_slow_server_is_given_up_in_time(client: ApiClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(lambda _: True, delay=30))
    started = time.monotonic()
    with pytest.raises(TimedOutError, match=r"0\.2 s"):
        await client.get(PODS, "a", Object, namespace="team", within=0.2)
    assert time.monotonic() - started < 15


async def test_calls_in_flight_are_bounded_and_the_queue_counts_towards_the_deadline(server: FakeApiServer) -> None:
    server.faults.append(Fault(lambda _: True, delay=0.3, times=100))
    async with ApiClient(server.config(), max_concurrent=2) as client:
        calls = [client.list(PODS, Object) for _ in range(2)]
        late = client.get(PODS, "a", Object, namespace="team", within=0.1)
        results = await asyncio.gather(*calls, late, return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [False, False, True]
    assert isinstance(results[2], TimedOutError)
    assert server.counted("GET") == 2


async def test_an_answer_of_another_shape_is_an_error_of_ours(client: ApiClient, server: FakeApiServer) -> None:
    server.put("configmaps", "a", namespace="team", data=5)
    with pytest.raises(MalformedAnswerError, match="ConfigMap"):
        await client.get(CONFIG_MAPS, "a", ConfigMap, namespace="team")


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    trust = trusting(None)
    async with ApiClient(ClusterConfig("https://127.0.0.1:1", lambda: trust)) as client:
        with pytest.raises(UnreachableError):
            await client.get(PODS, "a", Object, namespace="team", within=30)


async def test_a_certificate_of_a_stranger_is_refused(server: FakeApiServer) -> None:
    from datetime import UTC, datetime

    stranger = trusting(AuthoritySet((new_authority(datetime.now(UTC)),)).trust_bundle())
    async with ApiClient(ClusterConfig(f"https://127.0.0.1:{server.port}", lambda: stranger)) as client:
        with pytest.raises(UnreachableError, match="certificate verify failed"):
            await client.get(PODS, "a", Object, namespace="team", within=30)
    assert server.requests == []


async def test_each_request_carries_the_token_of_the_moment(server: FakeApiServer) -> None:
    tokens = iter(["one", "two"])
    async with ApiClient(server.config(lambda: next(tokens))) as client:
        await client.list(PODS, Object)
        await client.list(PODS, Object)
    assert server.authorizations == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb", "../secrets"])
def test_a_name_that_would_address_something_else_is_refused(name: str) -> None:
    for namespace, pod, subresource in ((name, None, None), ("team", name, None), ("team", "a", name)):
        with pytest.raises(InvalidNameError):
            PODS.path(namespace, pod, subresource)


def test_paths_follow_the_api() -> None:
    grants = Resource("countersign.dev", "v1alpha1", "workloadgrants", True)
    assert grants.path() == "/apis/countersign.dev/v1alpha1/workloadgrants"
    assert grants.path("a", "b", "status") == "/apis/countersign.dev/v1alpha1/namespaces/a/workloadgrants/b/status"
    assert NAMESPACES.path(name="x:y z") == "/api/v1/namespaces/x%3Ay%20z"
    assert (grants.api_version, PODS.api_version) == ("countersign.dev/v1alpha1", "v1")
    with pytest.raises(InvalidNameError):
        NAMESPACES.path("a", "b")
    with pytest.raises(InvalidNameError):
        PODS.path(name="a")


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6443", "https://", "https://x/?a=b", ""])
def test_anything_but_an_https_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="https"):
        ClusterConfig(url, lambda: trusting(None))


async def test_a_client_outside_its_context_says_so(server: FakeApiServer) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await ApiClient(server.config()).list(PODS, Object)


async def test_a_document_outside_the_resources_is_read(client: ApiClient, server: FakeApiServer) -> None:
    server.documents["/version"] = {"gitVersion": "v1.36.3"}
    found: dict[str, Any] = await client.get_path("/version", Object)
    assert found == {"gitVersion": "v1.36.3"}
