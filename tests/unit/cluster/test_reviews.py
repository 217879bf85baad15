"""Reviews: only a clear yes is a yes."""

import json
from typing import Any

import pytest

from countersign.cluster.client import ApiClient
from countersign.cluster.errors import MalformedAnswerError
from countersign.cluster.reviews import (
    MAX_TOKEN_CHARACTERS,
    ResourceAttributes,
    UserInfo,
    access_review,
    token_review,
)
from tests.fakes.api_server import FakeApiServer


def answering(server: FakeApiServer, status: Any) -> None:
    server.review = lambda body: body | {"status": status}


async def test_a_token_of_the_wanted_audience_is_authenticated(client: ApiClient, server: FakeApiServer) -> None:
    user = {"username": "system:serviceaccount:a:b", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}}
    answering(server, {"authenticated": True, "audiences": ["x"], "user": user})
    result = await token_review(client, "t.t.t", ["x", "y"])
    assert result.authenticated
    assert result.user == UserInfo("system:serviceaccount:a:b", "u", ("g",), {"k": ("v",)})
    assert json.loads(server.bodies[-1])["spec"] == {"token": "t.t.t", "audiences": ["x", "y"]}


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"authenticated": False},
        {"authenticated": True},
        {"authenticated": True, "audiences": []},
        {"authenticated": True, "audiences": ["another"]},
        {"error": "no"},
    ],
)
async def test_anything_less_is_not_authenticated(client: ApiClient, server: FakeApiServer, status: Any) -> None:
    answering(server, status)
    assert not (await token_review(client, "t", ["x"])).authenticated


@pytest.mark.parametrize("token", ["", "ü", "x" * (MAX_TOKEN_CHARACTERS + 1)])
async def test_what_cannot_be_a_token_never_reaches_the_api_server(
    client: ApiClient, server: FakeApiServer, token: str
) -> None:
    assert not (await token_review(client, token, ["x"])).authenticated
    assert server.requests == []


async def test_a_status_of_another_shape_is_an_error(client: ApiClient, server: FakeApiServer) -> None:
    answering(server, {"authenticated": "yes"})
    with pytest.raises(MalformedAnswerError):
        await token_review(client, "t", ["x"])


async def test_access_is_asked_for_the_whole_user(client: ApiClient, server: FakeApiServer) -> None:
    answering(server, {"allowed": True, "reason": "RBAC"})
    user = UserInfo("u", "1", ("g",), {"k": ("v",)})
    result = await access_review(client, user, ResourceAttributes("create", "pods", namespace="team"))
    assert (result.allowed, result.reason) == (True, "RBAC")
    assert json.loads(server.bodies[-1])["spec"] == {
        "user": "u",
        "uid": "1",
        "groups": ["g"],
        "extra": {"k": ["v"]},
        "resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "team"},
    }


async def test_no_verdict_is_no_access(client: ApiClient, server: FakeApiServer) -> None:
    answering(server, None)
    assert not (await access_review(client, UserInfo("u"), ResourceAttributes("get", "pods"))).allowed
