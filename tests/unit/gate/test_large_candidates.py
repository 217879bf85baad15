"""Attestations of many megabytes: few at once, each judged away from the loop, and nobody else waits for them."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from countersign.gate.evidence.candidates import LARGE_AT_ONCE, LARGE_AT_ONCE_PER_NAMESPACE
from countersign.gate.evidence.examiner import Judged, WorkerExaminer
from countersign.gate.evidence.service import EvidenceService
from countersign.registry.client import MAX_SIGNATURE_BYTES
from countersign.registry.fairness import Share
from countersign.signatures.examine import MAX_ATTESTATION_BYTES, Question
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.needs import PredicateNeed
from tests.fakes.registry import FakeRegistry, manifest
from tests.fakes.signing import bundle, statement
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import SIGNER, answer, ask, facts, refusal, serving

SBOM = "https://cyclonedx.org/bom"
SBOMS = (PredicateNeed(SBOM),)


def put_sbom(registry: FakeRegistry, repository: str, digest: str, megabytes: float) -> None:
    components = ["x" * 1000] * int(megabytes * 700)  # base64 makes a third more of it
    data = bundle(SIGNER, statement(digest, SBOM, predicate={"components": components}))
    registry.put_bundle(repository, digest, SIGNER, predicate_type=SBOM, data=data)


async def test_a_large_attestation_is_read_if_its_type_is_asked_about_and_not_otherwise(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    put_sbom(one_registry, "team/app", digest, 20)
    assert (await facts(service, ask(one_registry, "team/app:v1"))).attestations == ()
    assert not any("/blobs/" in path for path in one_registry.paths)
    found = await facts(service, ask(one_registry, "team/app:v1", predicates=SBOMS))
    assert [one.predicate_type for one in found.attestations] == [SBOM]


async def test_only_few_large_ones_are_read_at_once_and_one_of_a_namespace(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    requests = []
    for number in range(6):
        repository = f"team/app{number}"
        digest = one_registry.put_image(repository, "v1", mark=str(number))
        put_sbom(one_registry, repository, digest, 2)
        namespace = f"ns-{number % 3}"
        requests.append(ask(one_registry, f"{repository}@{digest}", predicates=SBOMS, namespace=namespace))
    now: list[str] = []
    most, of_one = 0, 0

    async def watch(request: web.Request) -> web.StreamResponse | None:
        nonlocal most, of_one
        if "/blobs/" not in request.path:
            return None
        namespace = str(int(request.path.split("/")[3].removeprefix("app")) % 3)
        now.append(namespace)
        most, of_one = max(most, len(now)), max(of_one, now.count(namespace))
        await asyncio.sleep(0.05)
        now.remove(namespace)
        return None

    one_registry.misbehave = watch
    found = await asyncio.gather(*(answer(service, request, within=60.0) for request in requests))
    assert all(isinstance(one, ImageFacts) and one.attestations for one in found)
    assert (most, of_one) == (LARGE_AT_ONCE, LARGE_AT_ONCE_PER_NAMESPACE)


async def test_large_ones_that_never_end_keep_no_small_ones_waiting(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    large, small = one_registry.put_image("large/app", "v1", mark="1"), one_registry.put_image("team/app", "v1")
    put_sbom(one_registry, "large/app", large, 2)
    one_registry.put_bundle("team/app", small, SIGNER)
    reading = asyncio.Event()

    async def hang(request: web.Request) -> None:
        if "/large/" in request.path and "/blobs/" in request.path:
            reading.set()
            await asyncio.sleep(60)

    one_registry.misbehave = hang
    names = [f"ns-{number}" for number in range(10)]
    waiting = [ask(one_registry, "large/app:v1", predicates=SBOMS, namespace=name) for name in names]
    hanging = asyncio.create_task(service.gather(waiting, asyncio.get_running_loop().time() + 60))
    await reading.wait()
    for name in names:
        assert (await facts(service, ask(one_registry, "team/app:v1", namespace=name))).vouches
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


@pytest.mark.parametrize(
    ("declared", "predicates"), [(MAX_ATTESTATION_BYTES + 1, SBOMS), (MAX_SIGNATURE_BYTES + 1, ())]
)
async def test_what_says_that_it_is_too_large_is_not_fetched(
    one_registry: FakeRegistry, service: EvidenceService, declared: int, predicates: tuple[PredicateNeed, ...]
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    await attach(one_registry, digest, declared)
    found = await facts(service, ask(one_registry, "team/app:v1", predicates=predicates))
    assert (found.vouches, found.attestations) == ((), ())
    assert not any("/blobs/" in path for path in one_registry.paths)


async def test_what_is_larger_than_it_says_counts_for_nothing(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    await attach(one_registry, digest, 100)
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches == ()


async def attach(registry: FakeRegistry, digest: str, declared: int) -> None:
    """A good signature whose descriptor says that it has so many bytes."""
    data = bundle(SIGNER, statement(digest))
    layer: dict[str, Any] = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "size": declared}
    layer["digest"] = registry.put_blob(data)
    registry.attach("team/app", digest, manifest(registry.put_blob(b"{}"), layers=[layer]))


async def test_a_candidate_that_could_not_be_judged_in_time_is_looked_at_again_soon(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    class Busy(WorkerExaminer):
        busy = True

        async def examine(self, candidates: Any, question: Question, share: Share) -> Judged:
            judged = await super().examine(candidates, question, share)
            return Judged((), sure=False) if self.busy else judged

    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    examiner = Busy()
    async with serving(ca, examiner=examiner) as service:
        request = ask(one_registry, f"team/app@{digest}", stale_seconds=600)
        assert (await facts(service, request)).vouches == ()
        examiner.busy = False
        async with asyncio.timeout(30):
            while not (await facts(service, request)).vouches:
                await asyncio.sleep(0.2)


async def test_a_connection_that_breaks_in_the_middle_of_a_large_one_leaves_the_question_open(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    put_sbom(one_registry, "team/app", digest, 2)

    async def break_off(request: web.Request) -> web.StreamResponse | None:
        if "/blobs/" not in request.path:
            return None
        response = web.StreamResponse()
        response.content_length = 1_500_000
        await response.prepare(request)
        await response.write(b"{" * 100_000)
        assert request.transport is not None
        request.transport.abort()
        return response

    one_registry.misbehave = break_off
    request = ask(one_registry, f"team/app@{digest}", predicates=SBOMS)
    found = await refusal(service, request)
    assert (found.reason, found.transient) == ("RegistryUnavailable", True)
    one_registry.misbehave = None
    assert (await facts(service, request)).attestations


async def test_no_more_than_so_many_bytes_are_read_for_one_digest(
    one_registry: FakeRegistry, service: EvidenceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countersign.gate.evidence.candidates.MAX_DIGEST_BYTES", 1_000_000)
    digest = one_registry.put_image("team/app", "v1")
    for number in range(20):
        data = json.dumps({"number": number, "junk": "x" * 100_000}).encode()
        one_registry.put_bundle("team/app", digest, SIGNER, data=data)
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches == ()
    assert len([path for path in one_registry.paths if "/blobs/" in path]) == 9
