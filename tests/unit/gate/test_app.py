"""The HTTP side: every request gets an answer, and none that is not a handler's own is `allowed: true`."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from countersign.api.admission import AdmissionRequest
from countersign.gate import answers
from countersign.gate.answers import Answer
from countersign.gate.app import MAX_BODY_BYTES, Asked, GateApp
from countersign.gate.metrics import GateMetrics

POD_CREATE = Asked("", "v1", "pods", "", "CREATE")
Judge = Callable[[AdmissionRequest, float], Awaitable[Answer]]


def review(**changes: Any) -> dict[str, Any]:
    request = {
        "uid": "r-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
        "object": {"metadata": {"name": "api"}},
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions"},
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request | changes}


class Gate:
    """A gate with one handler, and a client of it."""

    def __init__(self) -> None:
        self.seen: list[AdmissionRequest] = []
        self.budgets: list[float] = []
        self.answer: Answer | Exception = answers.allow("Admitted")
        self.ready: bool | str = True
        self.registry = CollectorRegistry()
        self.app = GateApp(
            {"/validate": {POD_CREATE: self.judge}}, ready=lambda: self.ready, metrics=GateMetrics(self.registry)
        )

    async def judge(self, request: AdmissionRequest, until: float) -> Answer:
        self.seen.append(request)
        self.budgets.append(until - asyncio.get_running_loop().time())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[TestClient[Request, Application]]:
    async with TestClient(TestServer(gate.app.application)) as opened:
        yield opened


Client = TestClient[Request, Application]


async def post(client: Client, body: bytes | dict[str, Any], path: str = "/validate", **more: Any) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": more.pop("content_type", "application/json")}
    async with client.post(path, data=io.BytesIO(data), headers=headers, **more) as response:
        return response.status, await response.text()


async def test_a_review_gets_the_handlers_answer_under_its_own_uid(client: Client, gate: Gate) -> None:
    gate.answer = Answer(
        allowed=True, reason="Admitted", patch=b"[]", warnings=("w",), audit={"verdict": "admitted", "long": "x" * 5000}
    )
    status, text = await post(client, review())
    answer = json.loads(text)
    assert status == 200
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = answer["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("r-1", True, "JSONPatch")
    assert response["patch"] == "W10="
    assert response["warnings"] == ["w"]
    assert response["auditAnnotations"]["verdict"] == "admitted"
    assert len(response["auditAnnotations"]["long"]) == 1024
    assert "status" not in response


async def test_a_denial_says_403_and_a_retry_503(client: Client, gate: Gate) -> None:
    gate.answer = answers.deny("ImageUnsigned", "ImageUnsigned: ...", patch=b"[]")
    response = json.loads((await post(client, review()))[1])["response"]
    assert response["allowed"] is False
    assert response["status"] == {"code": 403, "message": "ImageUnsigned: ...", "reason": "Forbidden"}
    assert "patch" not in response, "a refusal carries no half-made patch"
    gate.answer = answers.retry_later("EvidenceLate", "could not verify in time")
    response = json.loads((await post(client, review()))[1])["response"]
    assert (response["allowed"], response["status"]["code"]) == (False, 503)
    assert response["status"]["reason"] == "ServiceUnavailable"


async def test_an_exception_refuses_without_telling_its_text(client: Client, gate: Gate) -> None:
    gate.answer = KeyError("internal-detail")
    status, text = await post(client, review())
    response = json.loads(text)["response"]
    assert (status, response["uid"], response["allowed"], response["status"]["code"]) == (200, "r-1", False, 500)
    assert "internal-detail" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": {"group": "", "version": "v1", "resource": "secrets"}},
        {"resource": {"group": "apps", "version": "v1", "resource": "pods"}},
        {"resource": {"group": "", "version": "v2", "resource": "pods"}},
        {"subResource": "ephemeralcontainers"},
        {"operation": "UPDATE"},
        {"operation": "DELETE"},
        {"operation": "CONNECT"},
    ],
)
async def test_what_no_route_names_is_refused(client: Client, gate: Gate, changes: dict[str, Any]) -> None:
    status, text = await post(client, review(**changes))
    response = json.loads(text)["response"]
    assert (status, response["allowed"], response["status"]["code"]) == (200, False, 400)
    assert "webhook configuration" in response["status"]["message"]
    assert gate.seen == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"hello", 400),
        (b"{}", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 1_000_000, 400),
        (json.dumps(review() | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(), 400),
        (json.dumps(review() | {"kind": "ConversionReview"}).encode(), 400),
        (json.dumps(review(operation="PATCH")).encode(), 400),
        (json.dumps(review(uid=None)).encode(), 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_what_is_no_review_gets_an_http_error(client: Client, gate: Gate, body: bytes, expected: int) -> None:
    status, text = await post(client, body)
    assert status == expected
    assert "allowed" not in text
    assert gate.seen == []


async def test_a_review_with_two_objects_as_large_as_the_api_server_takes_is_judged(client: Client, gate: Gate) -> None:
    filler = {"metadata": {"annotations": {"a": "x" * (3 * 1024 * 1024)}}}
    status, _ = await post(client, review(object=filler, oldObject=filler))
    assert status == 200
    assert len(gate.seen) == 1


async def test_other_paths_methods_and_media_types_are_no_reviews(client: Client, gate: Gate) -> None:
    assert (await post(client, review(), "/mutate"))[0] == 404
    assert (await post(client, review(), "/"))[0] == 404
    assert (await post(client, review(), "/validate/"))[0] == 404
    assert (await post(client, review(), content_type="text/plain"))[0] == 415
    async with client.get("/validate") as response:
        assert response.status == 405
    assert gate.seen == []


async def test_before_it_is_ready_it_is_as_good_as_absent(client: Client, gate: Gate) -> None:
    gate.ready = "not listed yet: Namespace"
    status, text = await post(client, review())
    assert status == 503
    assert "not listed yet: Namespace" in text
    assert gate.seen == []


async def test_the_handlers_time_is_the_api_servers_less_a_margin(client: Client, gate: Gate) -> None:
    for query in ("?timeout=10s", "?timeout=3s", "", "?timeout=1s", "?timeout=-5s", "?timeout=99999999999s"):
        await post(client, review(), "/validate" + query)
    assert gate.budgets == pytest.approx([8.5, 1.5, 8.5, 0.25, 8.5, 8.5], abs=0.1)


async def test_while_draining_connections_are_given_up(client: Client, gate: Gate) -> None:
    gate.app.draining = True
    data = json.dumps(review())
    async with client.post("/validate", data=data, headers={"Content-Type": "application/json"}) as response:
        assert response.status == 200
        assert response.headers["Connection"] == "close"


async def test_what_is_answered_is_counted(client: Client, gate: Gate) -> None:
    await post(client, review())
    gate.answer = answers.deny("ImageUnsigned", "no")
    await post(client, review())
    await post(client, review(resource={"group": "", "version": "v1", "resource": "x" * 1000}))
    await post(client, b"x")

    def count(**labels: str) -> float | None:
        base = {"path": "/validate", "resource": "pods", "operation": "CREATE"}
        return gate.registry.get_sample_value("countersign_gate_admissions_total", base | labels)

    assert count(result="allowed", reason="Admitted") == 1
    assert count(result="denied", reason="ImageUnsigned") == 1
    assert count(result="error", reason="Misrouted", resource="other") == 1
    assert gate.registry.get_sample_value("countersign_gate_rejected_requests_total", {"code": "400"}) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("uid", "kind", "resource", "subResource", "namespace", "operation", "userInfo", "object", "oldObject", "dryRun")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.builds(lambda key, value: json.dumps(review(**{key: value})).encode(),
                                           st.sampled_from(KEYS), JSON))  # fmt: skip
def test_no_bytes_but_a_review_that_the_handler_judged_are_allowed(body: bytes) -> None:
    async def ask() -> tuple[int, str, Gate]:
        gate = Gate()
        async with TestClient(TestServer(gate.app.application)) as client:
            return (*await post(client, body), gate)

    status, text, gate = asyncio.run(ask())
    if gate.seen:
        return  # a whole review of a pod's CREATE: what the handler answers is the handler's
    assert status in (200, 400)
    assert '"allowed":true' not in text
