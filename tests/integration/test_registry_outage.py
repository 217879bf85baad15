"""A real registry that stands still for a while: what was verified counts on, what was not is refused at once, and
afterwards everything is as before."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from countersign.gate.evidence.service import EvidenceRequest, EvidenceService, Lifetimes
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.transport import Transport
from countersign.signatures.keys import parse_public_key
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.images.reference import ImageReference
from tests.lab.cosign import KeyPair
from tests.lab.images import ImageSpec
from tests.lab.lab import Lab
from tests.lab.registries import Registry, RegistryKind
from tests.stack.governed import Governed

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("outage-signer")


@pytest.fixture
async def evidence(lab: Lab) -> AsyncIterator[EvidenceService]:
    addresses, pem = AddressPolicy(["127.0.0.1"]), lab.ca_file.read_text()
    async with Transport(addresses, extra_ca_pem=pem, request_seconds=0.5) as transport:
        client = RegistryClient(transport)
        service = EvidenceService(client, lifetimes=Lifetimes(complete=0.0))
        try:
            yield service
        finally:
            await service.close()
            await client.close()


@contextmanager
def standing_still(registry: Registry) -> Iterator[None]:
    """Connections are accepted by the kernel, and nothing answers."""
    os.kill(registry.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, registry.process.pid, os.WSTOPPED)  # told when the last of its threads has stopped
    try:
        yield
    finally:
        os.kill(registry.process.pid, signal.SIGCONT)


async def look(
    evidence: EvidenceService, reference: str, key: KeyPair, *, stale_seconds: int = 0, within: float = 20.0
) -> ImageFacts | Unverifiable:
    request = EvidenceRequest(
        reference=ImageReference.parse(reference),
        keys=(parse_public_key(key.public_pem),),
        stale_seconds=stale_seconds,
        namespace="default",
        service_account="default",
    )
    return (await evidence.gather([request], asyncio.get_running_loop().time() + within))[request]


@pytest.mark.parametrize("kind", [RegistryKind.REFERRERS, RegistryKind.PLAIN])
async def test_what_was_verified_outlives_a_registry_that_stands_still(
    lab: Lab, evidence: EvidenceService, key: KeyPair, kind: RegistryKind
) -> None:
    registry = lab.registry(kind)
    repository = registry.repository("outage/app")
    known, unknown = repository.push("known", ImageSpec.distinct("1")), repository.push("new", ImageSpec.distinct("2"))
    for image in (known, unknown):
        lab.cosign.sign(registry, image, key)
    before = await look(evidence, known.by_tag, key)
    assert isinstance(before, ImageFacts), before
    assert before.vouches

    with standing_still(registry):
        for reference in (known.by_tag, known.by_digest):
            found = await look(evidence, reference, key, stale_seconds=3600)
            assert isinstance(found, ImageFacts), found
            assert (found.digest, found.vouches) == (before.digest, before.vouches)
            assert found.stale_seconds > 0
        refused = await look(evidence, unknown.by_tag, key, stale_seconds=3600)
        assert isinstance(refused, Unverifiable), refused
        assert (refused.reason in ("Timeout", "RegistryUnavailable"), refused.transient) == (True, True)
        while not (isinstance(refused, Unverifiable) and "has not answered since" in refused.message):
            refused = await look(evidence, unknown.by_tag, key)
        assert registry.host in refused.message

    async with asyncio.timeout(60):
        while not isinstance(found := await look(evidence, unknown.by_tag, key), ImageFacts):
            await asyncio.sleep(0.2)
    assert found.vouches
    assert found.stale_seconds == 0


def test_pods_of_a_verified_image_are_admitted_while_its_registry_stands_still_and_their_author_is_told(
    governed: Governed,
) -> None:
    (registry,) = [one for kind in RegistryKind if (one := governed.lab.registry(kind)).host in governed.image.by_tag]
    admitted = governed.admitted()
    with standing_still(registry):
        answer = governed.create()
        assert answer.status == 201, answer.message
        image = answer.body["spec"]["containers"][0]["image"]
        assert image == admitted["spec"]["containers"][0]["image"]
        assert "EvidenceStale: container app" in answer.headers.get("Warning", "")
        refused = governed.create(governed.pod(image=governed.unsigned.by_tag))
        assert refused.status >= 500, (refused.status, refused.message)
    governed.lab.wait_for(
        lambda: governed.create(governed.pod(image=governed.unsigned.by_tag)).status == 403,
        what="the unsigned image is refused for good",
        timeout=60,
    )
    assert "Warning" not in governed.admitted()
