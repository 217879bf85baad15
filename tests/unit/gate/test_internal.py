"""What the gate answers to the controller, and that it answers nobody else."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from countersign.api.gate_calls import (
    EVIDENCE_PATH,
    OUTLOOK_PATH,
    TALLIES_PATH,
    OutlookAnswer,
    OutlookQuestion,
    TallyReport,
)
from countersign.api.pod import Pod
from countersign.gate.internal import InternalCalls
from countersign.gate.reverification import Reverification
from countersign.keys.calls import CallVerifier, sign_call
from countersign.registry.counting import note_request
from countersign.trust.evidence.needs import EvidenceNeed
from countersign.trust.evidence.reverification import EvidenceAnswer, EvidenceQuestion, Inquiry
from tests.unit.gate.workbench import KEYS, NOW, Registries, Workbench, pod
from tests.unit.trust import build

Client = TestClient[web.Request, web.Application]


class Gate:
    """A gate's internal calls over a workbench."""

    def __init__(self, *policies: Any) -> None:
        self.bench = Workbench(*policies)
        self.ready: bool | str = True
        self.rejected: list[int] = []
        self.application = web.Application(client_max_size=1024 * 1024)
        verifier = CallVerifier(lambda: KEYS, lambda: NOW)
        InternalCalls(
            verifier,
            self.bench.tallies,
            self.bench.outlooks,
            Reverification(self.bench.registries),
            ready=lambda: self.ready,
            rejected=self.rejected.append,
        ).add_to(self.application.router)

    async def ask(self, client: Client, of: dict[str, Any] | Pod, namespace: str = build.NAMESPACE) -> OutlookAnswer:
        made = of if isinstance(of, Pod) else msgspec.convert(of, Pod)
        body = msgspec.json.encode(OutlookQuestion(namespace=namespace, pod=made))
        answer = await client.post(OUTLOOK_PATH, data=body, headers=signed(OUTLOOK_PATH, body))
        assert answer.status == 200, answer.status
        return msgspec.json.decode(await answer.read(), type=OutlookAnswer)


def signed(path: str, body: bytes) -> dict[str, str]:
    return {"Authorization": sign_call(KEYS, path, body, NOW)}


@pytest.fixture
def gate() -> Gate:
    return Gate(build.cluster_policy(mode="Audit", tokens=(build.token(),)))


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[Client]:
    async with TestClient(TestServer(gate.application)) as opened:
        yield opened


async def test_counts_are_told_to_the_controller(gate: Gate, client: Client) -> None:
    await gate.bench.mutate(pod())
    answer = await client.post(TALLIES_PATH, headers=signed(TALLIES_PATH, b""))
    report = msgspec.json.decode(await answer.read(), type=TallyReport)
    (found,) = report.policies
    assert (found.uid, found.generation, found.tally.allowed) == ("uid-payments", 1, 1)
    assert found.tally.gate == gate.bench.tallies.gate


@pytest.mark.parametrize("path", [TALLIES_PATH, OUTLOOK_PATH, EVIDENCE_PATH])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, signed("/internal/other", b"")])
async def test_strangers_are_told_nothing(gate: Gate, client: Client, path: str, headers: dict[str, str]) -> None:
    answer = await client.post(path, data=b"", headers=headers)
    assert (answer.status, await answer.read()) == (401, b"")
    assert gate.bench.registries.asked == []


async def test_a_running_pod_is_judged_as_if_it_were_created_now(gate: Gate, client: Client) -> None:
    found = await gate.ask(client, pod())
    (word,) = found.policies
    assert (word.uid, word.outcome, word.not_injected) == ("uid-payments", "allowed", True)
    gate.bench.registries.found[build.TAGGED] = build.unsigned()
    (word,) = (await gate.ask(client, pod())).policies
    assert (word.outcome, word.reasons) == ("wouldDeny", ("ImageUnsigned",))
    gate.bench.registries.found[build.TAGGED] = build.unverifiable()
    (word,) = (await gate.ask(client, pod())).policies
    assert (word.outcome, word.reasons) == ("unknown", ("ImageUnverifiable",))


async def test_an_answer_holds_reason_codes_and_nothing_of_what_was_found(gate: Gate, client: Client) -> None:
    gate.bench.registries.found[build.TAGGED] = build.unsigned()
    body = msgspec.json.encode(OutlookQuestion(namespace=build.NAMESPACE, pod=msgspec.convert(pod(), Pod)))
    answer = await client.post(OUTLOOK_PATH, data=body, headers=signed(OUTLOOK_PATH, body))
    assert build.DIGEST not in await answer.text()
    assert build.REPOSITORY not in await answer.text()


async def test_a_receipt_spares_the_registry(gate: Gate, client: Client) -> None:
    admitted = await gate.bench.admitted(pod())
    asked = len(gate.bench.registries.asked)
    (word,) = (await gate.ask(client, admitted)).policies
    assert (word.outcome, word.not_injected) == ("allowed", False)
    assert len(gate.bench.registries.asked) == asked


async def test_labels_that_were_changed_since_admission_do_not_count(gate: Gate, client: Client) -> None:
    gate.bench.declare(build.cluster_policy(pods={"app": "api"}))
    admitted = await gate.bench.admitted(pod())
    admitted["metadata"]["labels"] = {"app": "other"}
    assert len((await gate.ask(client, admitted)).policies) == 1


async def test_a_pod_that_nothing_governs_costs_nothing(gate: Gate, client: Client) -> None:
    gate.bench.declare(build.cluster_policy(pods={"app": "other"}))
    found = await gate.ask(client, pod())
    assert (found.policies, found.registry_requests, gate.bench.registries.asked) == ((), 0, [])


async def test_requests_to_registries_are_told_once(
    gate: Gate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = Registries.gather

    async def three(self: Registries, requests: Any, deadline: float) -> Any:
        for _ in range(3):
            note_request()
        return await gather(self, requests, deadline)

    monkeypatch.setattr(Registries, "gather", three)
    await gate.bench.mutate(pod())
    assert (await gate.ask(client, pod())).registry_requests == 3, "an admission's are its own"
    assert (await gate.ask(client, pod())).registry_requests == 3


async def test_a_gate_that_cannot_judge_yet_says_so(gate: Gate, client: Client) -> None:
    gate.ready = "not listed yet"
    body = msgspec.json.encode(OutlookQuestion(namespace=build.NAMESPACE, pod=msgspec.convert(pod(), Pod)))
    answer = await client.post(OUTLOOK_PATH, data=body, headers=signed(OUTLOOK_PATH, body))
    assert answer.status == 503
    assert gate.rejected == [503]


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 5000, b'{"namespace":1,"pod":{}}', b"\xff"])
async def test_what_is_no_question_gets_an_error(client: Client, body: bytes) -> None:
    answer = await client.post(OUTLOOK_PATH, data=body, headers=signed(OUTLOOK_PATH, body))
    assert answer.status == 400


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    body = b"x" * (2 * 1024 * 1024)
    answer = await client.post(OUTLOOK_PATH, data=io.BytesIO(body), headers=signed(OUTLOOK_PATH, body))
    assert answer.status == 413


async def verify(client: Client, image: str = f"{build.REPOSITORY}@{build.DIGEST}", **members: Any) -> EvidenceAnswer:
    need = EvidenceNeed(image=image, keys=(build.key(),), fingerprints=(build.fingerprint(),))
    inquiry = Inquiry(namespace=build.NAMESPACE, service_account="api", need=need)
    body = msgspec.json.encode(EvidenceQuestion(inquiry=inquiry, max_age_seconds=members.pop("max_age_seconds", 60)))
    answer = await client.post(EVIDENCE_PATH, data=body, headers=signed(EVIDENCE_PATH, body))
    assert answer.status == 200, answer.status
    return msgspec.json.decode(await answer.read(), type=EvidenceAnswer)


async def test_evidence_of_a_running_image_is_found_out_anew(gate: Gate, client: Client) -> None:
    found = await verify(client)
    assert found.facts is not None
    assert found.facts.digest == build.DIGEST
    (asked,) = gate.bench.registries.requests
    assert (asked.stale_seconds, asked.max_age_seconds) == (0, 60)


async def test_what_was_found_out_before_an_outage_is_no_answer(gate: Gate, client: Client) -> None:
    image = f"{build.REPOSITORY}@{build.DIGEST}"
    gate.bench.registries.found[image] = build.facts(stale_seconds=9)
    found = await verify(client)
    assert (found.facts, found.reason) == (None, "RegistryUnavailable")
    gate.bench.registries.found[image] = build.unverifiable(reason="RateLimited")
    found = await verify(client)
    assert (found.facts, found.reason) == (None, "RateLimited")


async def test_a_question_about_no_image_gets_an_error(client: Client) -> None:
    need = EvidenceNeed(image="no image::")
    inquiry = Inquiry(namespace="payments", service_account="api", need=need)
    body = msgspec.json.encode(EvidenceQuestion(inquiry=inquiry, max_age_seconds=60))
    answer = await client.post(EVIDENCE_PATH, data=body, headers=signed(EVIDENCE_PATH, body))
    assert answer.status == 400
