"""Many pods at once, registries that fail, and how many requests all of that costs."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from countersign.gate.evidence.metrics import EvidenceMetrics
from countersign.gate.evidence.service import EvidenceService, Lifetimes
from countersign.registry.courier import Patience
from countersign.trust.evidence.facts import ImageFacts
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import OTHER_KEY, SIGNER, answer, ask, facts, refusal, serving

QUICK = Patience(tries=40, first_wait=0.001, longest_wait=0.01)


def kinds(registry: FakeRegistry) -> Counter[str]:
    """Requests that the registry saw, by kind."""
    names = ("manifests", "blobs", "referrers")
    return Counter(
        f"{seen.method} {next((name for name in names if f'/{name}/' in seen.path), seen.path)}"
        for seen in registry.seen
    )


async def test_two_hundred_pods_of_one_new_image_are_one_verification(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    digest = one_registry.put_image("team/app", "v1", entrypoint=["/app"])
    one_registry.put_bundle("team/app", digest, SIGNER)
    metrics = CollectorRegistry()
    async with serving(ca, observer=EvidenceMetrics(metrics)) as service:
        pods = [ask(one_registry, "team/app:v1", want_config=True, service_account=f"sa-{n}") for n in range(200)]
        found = await asyncio.gather(*(answer(service, pod) for pod in pods))
        assert all(isinstance(one, ImageFacts) and one.vouches for one in found)
        assert metrics.get_sample_value("countersign_gate_verifications_total", {"outcome": "found"}) == 1
        # Cold, a bundle among the referrers: the tag, the list, `.sig`, the referrer and its bundle; and the config.
        assert kinds(one_registry) == {
            "HEAD manifests": 1,
            "GET referrers": 1,
            "GET manifests": 3,
            "GET blobs": 2,
        }
        one_registry.seen.clear()
        await asyncio.gather(*(answer(service, pod) for pod in pods))
        assert set(kinds(one_registry)) == {"HEAD manifests"}
        one_registry.seen.clear()
        by_digest = [ask(one_registry, f"team/app@{digest}", want_config=True, namespace=f"ns-{n}") for n in range(200)]
        await asyncio.gather(*(answer(service, pod) for pod in by_digest))
        assert one_registry.seen == []


@pytest.mark.parametrize("images", [1, 50])
async def test_a_registry_that_turns_half_of_all_requests_away_admits_every_pod(
    ca: CertificateAuthority, one_registry: FakeRegistry, images: int
) -> None:
    for number in range(images):
        digest = one_registry.put_image(f"team/app{number}", "v1", mark=str(number))
        one_registry.put_bundle(f"team/app{number}", digest, SIGNER)
    coin = random.Random(5)

    async def every_second(_: web.Request) -> web.Response | None:
        return web.Response(status=429) if coin.random() < 0.5 else None

    one_registry.misbehave = every_second
    metrics = CollectorRegistry()
    async with serving(ca, patience=QUICK, observer=EvidenceMetrics(metrics)) as service:
        pods = [
            ask(one_registry, f"team/app{number % images}:v1", service_account=f"sa-{number}") for number in range(200)
        ]
        found = await asyncio.gather(*(answer(service, pod, within=60.0) for pod in pods))
        assert all(isinstance(one, ImageFacts) and one.vouches for one in found)
    assert metrics.get_sample_value("countersign_gate_verifications_total", {"outcome": "found"}) == images


async def test_policies_that_put_the_same_question_share_the_answer(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    one = ask(one_registry, f"team/app@{digest}")
    both: dict[str, Any] = {"keys": (OTHER_KEY, *one.keys)}
    await facts(service, ask(one_registry, f"team/app@{digest}", **both))
    seen = len(one_registry.seen)
    assert seen
    turned = ask(one_registry, f"team/app@{digest}", keys=(*one.keys, OTHER_KEY), namespace="other")
    assert (await facts(service, turned)).checked_keys == tuple(key.fingerprint for key in turned.keys)
    assert len(one_registry.seen) == seen


async def test_different_bytes_the_second_time_are_not_taken(
    one_registry: FakeRegistry, ca: CertificateAuthority
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    async with serving(ca, lifetimes=Lifetimes(complete=0.0)) as service:
        request = ask(one_registry, f"team/app@{digest}", want_config=True)
        assert (await facts(service, request)).vouches
        other = one_registry.put_image("team/app", entrypoint=["/evil"])
        one_registry._manifests["team/app", digest] = one_registry._manifests["team/app", other]
        service._configs._entries.clear()
        assert (await refusal(service, request)).reason == "Malformed"


@pytest.mark.parametrize("by_tag", [False, True])
async def test_a_digest_verified_before_is_admitted_while_the_registry_hangs(
    ca: CertificateAuthority, one_registry: FakeRegistry, by_tag: bool
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)

    async def hang(_: web.Request) -> None:
        await asyncio.sleep(60)

    async with serving(ca, lifetimes=Lifetimes(complete=0.0), request_seconds=60.0) as service:
        request = ask(one_registry, "team/app:v1" if by_tag else f"team/app@{digest}", stale_seconds=600)
        assert (await facts(service, request)).stale_seconds == 0
        one_registry.misbehave = hang
        found = await answer(service, request, within=120.0)  # the test would end before that
        assert isinstance(found, ImageFacts)
        assert (found.digest, bool(found.vouches), found.stale_seconds > 0) == (digest, True, True)


async def test_how_long_facts_outlive_their_time_is_the_policys_word(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)

    async def down(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with serving(ca, lifetimes=Lifetimes(complete=0.0)) as service:
        await facts(service, ask(one_registry, f"team/app@{digest}"))
        one_registry.misbehave = down
        await asyncio.sleep(1.1)
        assert (await refusal(service, ask(one_registry, f"team/app@{digest}", stale_seconds=1))).transient
        assert (await facts(service, ask(one_registry, f"team/app@{digest}", stale_seconds=600))).stale_seconds >= 1


@pytest.mark.parametrize("signed", [True, False])
async def test_outcomes_are_counted_without_naming_hosts(
    ca: CertificateAuthority, one_registry: FakeRegistry, signed: bool
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    if signed:
        one_registry.put_bundle("team/app", digest, SIGNER)
    metrics = CollectorRegistry()
    async with serving(ca, observer=EvidenceMetrics(metrics)) as service:
        await facts(service, ask(one_registry, "team/app:v1"))
        await refusal(service, ask(one_registry, "team/other:v1"))
    samples = [sample for family in metrics.collect() for sample in family.samples]
    outcome = "found" if signed else "nothing"
    assert metrics.get_sample_value("countersign_gate_verifications_total", {"outcome": outcome}) == 1
    wanted = {"kind": "resolve", "outcome": "not_found"}
    assert metrics.get_sample_value("countersign_gate_registry_requests_total", wanted) == 1
    assert (metrics.get_sample_value("countersign_gate_evidence_cache_bytes") or 0) > 0
    assert not any(one_registry.host in value for sample in samples for value in sample.labels.values())
