"""Facts about images: what is found, what is remembered, for whom, and what never is."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web

from countersign.gate.evidence.places import MAX_CANDIDATES
from countersign.gate.evidence.platforms import MAX_PLATFORMS
from countersign.gate.evidence.service import (
    EvidenceRequest,
    EvidenceService,
    Lifetimes,
    PullSecret,
)
from countersign.registry.client import MAX_SIGNATURE_BYTES
from countersign.registry.courier import Patience
from countersign.signatures.keys import parse_public_key
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.needs import PredicateNeed
from countersign.trust.images.reference import ImageReference
from tests.fakes.registry import FakeRegistry, entry, index, manifest
from tests.fakes.signing import bundle, classic_payload, make_key, pem_of, statement
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import (
    KEY,
    OTHER_KEY,
    OTHER_SIGNER,
    SIGNER,
    FakePullSecrets,
    answer,
    ask,
    facts,
    refusal,
    serving,
)

# What is found


async def test_a_classic_signature_vouches_and_tells_its_reference(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_classic_signature("team/app", digest, SIGNER)
    found = await facts(service, ask(registry, "team/app:v1"))
    assert (found.image, found.digest) == (f"{registry.host}/team/app", digest)
    assert [(vouch.key_fingerprint, vouch.format, vouch.reference) for vouch in found.vouches] == [
        (KEY.fingerprint, "classic", f"{registry.host}/team/app")
    ]
    assert found.checked_keys == (KEY.fingerprint,)
    assert found.configs == ()


@pytest.mark.parametrize("annotate", [True, False])
async def test_a_bundle_vouches_whatever_the_list_says_of_it(
    registry: FakeRegistry, service: EvidenceService, annotate: bool
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_bundle("team/app", digest, SIGNER, annotate=annotate)
    found = await facts(service, ask(registry, "team/app:v1"))
    assert [(vouch.key_fingerprint, vouch.format) for vouch in found.vouches] == [(KEY.fingerprint, "bundle")]


async def test_each_key_that_signed_vouches_in_each_format(registry: FakeRegistry, service: EvidenceService) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_classic_signature("team/app", digest, OTHER_SIGNER, SIGNER)
    registry.put_bundle("team/app", digest, SIGNER)
    found = await facts(service, ask(registry, "team/app:v1", keys=(KEY, OTHER_KEY)))
    assert {(vouch.key_fingerprint, vouch.format) for vouch in found.vouches} == {
        (KEY.fingerprint, "classic"),
        (KEY.fingerprint, "bundle"),
        (OTHER_KEY.fingerprint, "classic"),
    }


async def test_an_unsigned_image_has_no_vouches(registry: FakeRegistry, service: EvidenceService) -> None:
    registry.put_image("team/app", "v1")
    assert (await facts(service, ask(registry, "team/app:v1"))).vouches == ()


async def test_a_signature_by_another_key_does_not_vouch(registry: FakeRegistry, service: EvidenceService) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_classic_signature("team/app", digest, OTHER_SIGNER)
    registry.put_bundle("team/app", digest, OTHER_SIGNER)
    assert (await facts(service, ask(registry, "team/app:v1"))).vouches == ()


async def test_a_signature_for_another_digest_does_not_vouch_wherever_it_is_stored(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    signed = registry.put_image("team/app", "v1", mark="signed")
    attacked = registry.put_image("team/app", "v2", mark="attacked")
    registry.put_classic_signature("team/app", signed, SIGNER)
    registry.put_classic_signature("team/app", attacked, SIGNER, payload=_payload_for(registry, signed))
    registry.put_bundle("team/app", attacked, SIGNER, signed_digest=signed)
    assert (await facts(service, ask(registry, "team/app:v2"))).vouches == ()


async def test_the_same_digest_mirrored_elsewhere_verifies_with_its_first_reference(
    registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = registry.put_image("mirror/app", "v1")
    registry.put_classic_signature("mirror/app", digest, SIGNER, payload=_payload_for(registry, digest, "team/app"))
    found = await facts(service, ask(registry, "mirror/app:v1"))
    assert [vouch.reference for vouch in found.vouches] == [f"{registry.host}/team/app"]


@pytest.mark.parametrize("annotate", [True, False])
async def test_an_attestation_is_not_a_signature(
    registry: FakeRegistry, service: EvidenceService, annotate: bool
) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_bundle("team/app", digest, SIGNER, predicate_type="https://slsa.dev/provenance/v1", annotate=annotate)
    assert (await facts(service, ask(registry, "team/app:v1"))).vouches == ()


async def test_bad_candidates_do_not_spoil_a_good_one(registry: FakeRegistry, service: EvidenceService) -> None:
    digest = registry.put_image("team/app", "v1")
    registry.put_bundle("team/app", digest, SIGNER, data=b"not json")
    registry.put_bundle("team/app", digest, SIGNER, data=b"x" * (MAX_SIGNATURE_BYTES + 1))
    missing = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": "sha256:" + "00" * 32, "size": 1}
    registry.attach("team/app", digest, manifest("sha256:" + "00" * 32, layers=[missing]))
    registry.attach("team/app", digest, {"schemaVersion": 1})
    registry.attach("team/app", digest, {"schemaVersion": 2, "manifests": []})
    registry.put_bundle("team/app", digest, SIGNER)
    found = await facts(service, ask(registry, "team/app:v1"))
    assert [vouch.format for vouch in found.vouches] == ["bundle"]


@pytest.mark.parametrize("position", ["first", "last"])
async def test_a_flood_of_candidates_is_not_examined_whole_and_hides_neither_the_first_nor_the_last(
    one_registry: FakeRegistry, service: EvidenceService, position: str
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    if position == "first":
        one_registry.put_bundle("team/app", digest, SIGNER)
    for number in range(2 * MAX_CANDIDATES):
        one_registry.put_bundle("team/app", digest, SIGNER, data=b"junk %d" % number)
    if position == "last":
        one_registry.put_bundle("team/app", digest, SIGNER)
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches
    assert len([path for path in one_registry.paths if "/blobs/" in path]) <= MAX_CANDIDATES


async def test_many_keys_and_large_payloads_are_judged_all_the_same(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_classic_signature("team/app", digest, SIGNER)
    keys = (*(parse_public_key(pem_of(make_key())) for _ in range(10)), KEY)
    assert (await facts(service, ask(one_registry, "team/app:v1", keys=keys))).vouches


# Configs


async def test_a_plain_manifest_has_one_config(one_registry: FakeRegistry, service: EvidenceService) -> None:
    digest = one_registry.put_image("team/app", "v1", entrypoint=["/app"], cmd=["serve"])
    found = await facts(service, ask(one_registry, "team/app:v1", want_config=True))
    (config,) = found.configs
    assert (config.platform, config.digest, config.entrypoint, config.cmd) == (
        "linux/amd64", digest, ("/app",), ("serve",),
    )  # fmt: skip
    assert found.runtime_digests == (digest, config.config_digest)


async def test_an_index_has_a_config_for_each_runnable_platform(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    amd = one_registry.put_image("team/app", entrypoint=["/app"])
    arm = one_registry.put_image("team/app", entrypoint=["/other"], platform="linux/arm64")
    attestation = one_registry.put_image("team/app", mark="attestation")
    digest = one_registry.put_manifest(
        "team/app",
        index([entry(amd, "linux/amd64"), entry(arm), entry(attestation, "unknown/unknown")]),
        "v1",
    )
    found = await facts(service, ask(one_registry, "team/app:v1", want_config=True))
    assert found.digest == digest
    assert [(config.platform, config.digest, config.entrypoint) for config in found.configs] == [
        ("linux/amd64", amd, ("/app",)),
        ("linux/arm64", arm, ("/other",)),
    ]
    assert set(found.runtime_digests) >= {digest, amd, arm}
    assert attestation not in found.runtime_digests


async def test_an_index_that_cannot_be_judged_on_every_platform_is_refused(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    image = one_registry.put_image("team/app")
    inner = one_registry.put_manifest("team/app", index([entry(image, "linux/amd64")]))
    one_registry.put_manifest("team/app", index([entry(inner, "linux/amd64")]), "nested")
    one_registry.put_manifest("team/app", index([]), "empty")
    one_registry.put_manifest("team/app", index([entry(image, "unknown/unknown")]), "unrunnable")
    one_registry.put_manifest("team/app", index([entry(image, f"os{n}/cpu") for n in range(MAX_PLATFORMS + 1)]), "wide")
    reasons = {}
    for tag in ("nested", "empty", "unrunnable", "wide"):
        found = await refusal(service, ask(one_registry, f"team/app:{tag}", keys=(), want_config=True))
        reasons[tag] = found.reason
        assert not found.transient
    assert reasons == {"nested": "Malformed", "empty": "Malformed", "unrunnable": "Malformed", "wide": "TooLarge"}


# What is remembered


async def test_a_digest_with_nothing_to_find_out_needs_no_registry(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = "sha256:" + "ab" * 32
    found = await facts(service, ask(one_registry, f"team/app@{digest}", keys=()))
    assert found == ImageFacts(f"{one_registry.host}/team/app", digest, (), (), ())
    assert one_registry.seen == []


async def test_a_tag_is_asked_about_each_time_and_its_digests_facts_are_not(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1", entrypoint=["/app"])
    one_registry.put_bundle("team/app", digest, SIGNER)
    request = ask(one_registry, "team/app:v1", want_config=True)
    first = await facts(service, request)
    one_registry.seen.clear()
    assert await facts(service, request) == first
    assert one_registry.paths == ["HEAD /v2/team/app/manifests/v1"]
    one_registry.seen.clear()
    assert (await facts(service, ask(one_registry, f"team/app@{digest}", want_config=True))).vouches == first.vouches
    assert one_registry.seen == []

    moved = one_registry.put_image("team/app", "v1", entrypoint=["/evil"])
    found = await facts(service, request)
    assert (found.digest, found.vouches) == (moved, ())


async def test_other_keys_and_another_repository_are_other_questions(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_image("other/app", "v1")
    one_registry.put_classic_signature("team/app", digest, SIGNER)
    assert (await facts(service, ask(one_registry, f"team/app@{digest}"))).vouches
    assert not (await facts(service, ask(one_registry, f"team/app@{digest}", keys=(OTHER_KEY,)))).vouches
    assert not (await facts(service, ask(one_registry, f"other/app@{digest}"))).vouches


async def test_an_image_signed_just_now_is_found_once_the_short_memory_of_its_absence_ends(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    async with serving(ca, lifetimes=Lifetimes(nothing=2)) as service:
        digest = one_registry.put_image("team/app", "v1")
        request = ask(one_registry, f"team/app@{digest}")
        assert not (await facts(service, request)).vouches
        one_registry.put_bundle("team/app", digest, SIGNER)
        assert not (await facts(service, request)).vouches
        await asyncio.sleep(2.1)
        assert (await facts(service, request)).vouches


async def test_a_later_attestation_is_found_though_an_earlier_one_is_there(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    scan = "https://example.com/scan/v1"
    async with serving(ca, lifetimes=Lifetimes(attested=0.1)) as service:
        digest = one_registry.put_image("team/app", "v1")
        one_registry.put_bundle("team/app", digest, SIGNER)
        one_registry.put_bundle("team/app", digest, SIGNER, predicate_type=scan)
        request = ask(one_registry, f"team/app@{digest}", predicates=(PredicateNeed(scan),))
        assert len((await facts(service, request)).attestations) == 1
        later = bundle(SIGNER, statement(digest, scan, predicate={"later": True}))
        one_registry.put_bundle("team/app", digest, SIGNER, predicate_type=scan, data=later)
        await asyncio.sleep(0.15)
        assert len((await facts(service, request)).attestations) == 2


async def test_a_partly_signed_image_is_asked_about_again_sooner(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    async with serving(ca, lifetimes=Lifetimes(partial=0.1)) as service:
        digest = one_registry.put_image("team/app", "v1")
        one_registry.put_bundle("team/app", digest, SIGNER)
        request = ask(one_registry, f"team/app@{digest}", keys=(KEY, OTHER_KEY))
        assert len((await facts(service, request)).vouches) == 1
        one_registry.put_bundle("team/app", digest, OTHER_SIGNER)
        await asyncio.sleep(0.15)
        assert len((await facts(service, request)).vouches) == 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, "RateLimited"), (503, "RegistryUnavailable"), (403, "Unauthorized"), (418, "Malformed")],
)
async def test_an_error_is_never_remembered(
    one_registry: FakeRegistry, service: EvidenceService, status: int, reason: str
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)

    async def fail(request: web.Request) -> web.Response | None:
        return web.Response(status=status) if "/manifests/" in request.path else None

    one_registry.misbehave = fail
    found = await refusal(service, ask(one_registry, "team/app:v1"))
    assert found.reason == reason
    assert found.transient == (status in (429, 503))
    assert found.image == f"{one_registry.host}/team/app:v1"
    one_registry.misbehave = None
    assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches


async def test_a_time_out_at_one_candidate_leaves_the_whole_question_open(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)

    async def hang(request: web.Request) -> web.Response | None:
        if "/blobs/" in request.path:
            await asyncio.sleep(60)
        return None

    one_registry.misbehave = hang
    async with serving(ca, request_seconds=0.2) as service:
        found = await refusal(service, ask(one_registry, f"team/app@{digest}"))
        assert (found.reason, found.transient) == ("Timeout", True)
        one_registry.misbehave = None
        assert (await facts(service, ask(one_registry, f"team/app@{digest}"))).vouches


async def test_known_signatures_outlive_an_outage_of_the_registry_but_not_a_refusal(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    status = 503

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=status)

    once = Patience(tries=1)  # so that the host is not left alone yet
    async with serving(ca, lifetimes=Lifetimes(complete=0.0, configs=0.0), patience=once) as service:
        request = ask(one_registry, f"team/app@{digest}", want_config=True, stale_seconds=60)
        first = await facts(service, request)
        assert first.stale_seconds == 0
        one_registry.misbehave = fail
        found = await facts(service, request)
        assert found.stale_seconds > 0
        assert msgspec.structs.replace(found, stale_seconds=0) == first
        impatient = msgspec.structs.replace(request, stale_seconds=0)
        assert (await refusal(service, impatient)).transient
        status = 403
        assert (await refusal(service, request)).reason == "Unauthorized"


async def test_the_absence_of_a_signature_is_not_carried_over_an_outage(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    digest = one_registry.put_image("team/app", "v1")

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with serving(ca, lifetimes=Lifetimes(nothing=0.0)) as service:
        request = ask(one_registry, f"team/app@{digest}")
        assert (await facts(service, request)).vouches == ()
        one_registry.misbehave = fail
        assert (await refusal(service, request)).transient


async def test_a_flood_of_hanging_verifications_of_one_namespace_does_not_delay_another(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)

    async def hang(request: web.Request) -> None:
        if "/flood/" in request.path:
            await asyncio.sleep(60)

    one_registry.misbehave = hang
    flood = [ask(one_registry, f"flood/app{number}:v1", namespace="flood") for number in range(200)]
    deadline = asyncio.get_running_loop().time() + 60
    flooding = asyncio.create_task(service.gather(flood, deadline))
    await asyncio.sleep(0.3)
    # Less than REQUEST_SECONDS, after which the flood's first requests would make room.
    found = await answer(service, ask(one_registry, "team/app:v1", namespace="quiet"), within=8.0)
    assert isinstance(found, ImageFacts), found
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)


async def test_after_the_deadline_the_work_goes_on_and_the_retry_is_warm(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)

    async def slow(_: web.Request) -> None:
        await asyncio.sleep(0.15)

    one_registry.misbehave = slow
    request = ask(one_registry, f"team/app@{digest}")
    found = await refusal(service, request, within=0.2)
    assert (found.reason, found.transient) == ("Timeout", True)
    seen = -1
    while seen < len(one_registry.seen):
        seen = len(one_registry.seen)
        await asyncio.sleep(1.0)
    assert (await facts(service, request)).vouches
    assert len(one_registry.seen) == seen


async def test_the_same_question_in_flight_is_asked_once(one_registry: FakeRegistry, service: EvidenceService) -> None:
    digest = one_registry.put_image("team/app", "v1", entrypoint=["/app"])
    one_registry.put_bundle("team/app", digest, SIGNER)
    requests = [ask(one_registry, "team/app:v1", want_config=True, namespace=f"team-{n}") for n in range(30)]
    deadline = asyncio.get_running_loop().time() + 5
    answers = await service.gather(requests, deadline)
    assert len(answers) == 30
    assert len(set(answers.values())) == 1
    assert len(one_registry.paths) == len(set(one_registry.paths))


# For whom


async def test_what_one_namespace_may_see_is_not_verified_for_another(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    one_registry.basic = {"a:secret"}
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    secrets = FakePullSecrets({"team-a": ("a", "secret"), "team-b": ("b", "guess")}, one_registry.host)
    async with serving(ca, pull_secrets=secrets) as service:
        assert (await facts(service, ask(one_registry, f"team/app@{digest}"))).vouches
        for namespace in ("team-b", "team-c"):
            found = await refusal(service, ask(one_registry, f"team/app@{digest}", namespace=namespace))
            assert (found.reason, found.transient) == ("Unauthorized", False)


async def test_pull_secrets_that_cannot_be_read_leave_the_question_open(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    async with serving(ca, pull_secrets=FakePullSecrets(broken=True)) as service:
        found = await refusal(service, ask(one_registry, "team/app:v1"))
    assert (found.message, found.transient) == ("the API server does not answer", True)
    assert one_registry.seen == []


async def test_a_pull_secret_that_cannot_be_parsed_is_left_out(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    class Broken(FakePullSecrets):
        async def for_pod(self, *arguments: Any) -> Sequence[PullSecret]:
            return (PullSecret("Opaque", b""), PullSecret("kubernetes.io/dockercfg", b"{"))

    one_registry.put_image("team/app", "v1")
    async with serving(ca, pull_secrets=Broken()) as service:
        assert (await facts(service, ask(one_registry, "team/app:v1"))).vouches == ()


async def test_a_denied_address_is_told_as_such(ca: CertificateAuthority, service: EvidenceService) -> None:
    request = EvidenceRequest(
        reference=ImageReference.parse("169.254.169.254/latest:v1"), keys=(KEY,), namespace="a", service_account="b"
    )
    found = await refusal(service, request)
    assert (found.reason, found.transient) == ("AddressDenied", False)


async def test_the_observer_is_told_of_each_answer(ca: CertificateAuthority, one_registry: FakeRegistry) -> None:
    told: list[str] = []
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    async with serving(ca, observe=lambda outcome, seconds: told.append(outcome)) as service:
        await facts(service, ask(one_registry, f"team/app@{digest}"))
        await facts(service, ask(one_registry, f"team/app@{digest}"))
        await refusal(service, ask(one_registry, "team/app:missing"))
    assert told == ["asked", "warm", "unverifiable"]


def _payload_for(registry: FakeRegistry, digest: str, repository: str = "team/app") -> bytes:
    return classic_payload(digest, f"{registry.host}/{repository}")
