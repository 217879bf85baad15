"""Keyless signatures and attestations, made by the real cosign with a private Sigstore, found and judged by the gate's
own evidence service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from countersign.gate.evidence.roots import RootContent
from countersign.gate.evidence.service import EvidenceRequest, EvidenceService
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.transport import Transport
from countersign.signatures.roots.trust_root import parse_trust_root
from countersign.trust.evidence.conditions import condition_name
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.evidence.needs import PredicateNeed
from countersign.trust.images.reference import ImageReference
from tests.lab.cosign import Form
from tests.lab.images import PushedImage
from tests.lab.lab import Lab
from tests.lab.registries import Registry, RegistryKind
from tests.lab.sigstore.services import Sigstore

pytestmark = pytest.mark.lab

SCAN = "https://example.com/scan/v1"


class Roots:
    """Evidence roots by name; what they hold can be changed."""

    def __init__(self, **roots: Sigstore) -> None:
        self.contents = {name: sigstore.trusted_root.read_bytes() for name, sigstore in roots.items()}

    def content(self, name: str) -> RootContent | None:
        content = self.contents.get(name)
        return RootContent(parse_trust_root(content).hash, content) if content else None


@pytest.fixture(params=[RegistryKind.REFERRERS, RegistryKind.PLAIN])
def registry(lab: Lab, request: pytest.FixtureRequest) -> Registry:
    return lab.registry(request.param)


@pytest.fixture
def image(registry: Registry, request: pytest.FixtureRequest) -> PushedImage:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")
    return registry.repository(f"keyless/{name}").push("v1")


@pytest.fixture
def roots(lab: Lab) -> Roots:
    return Roots(private=lab.sigstore, stranger=lab.another_sigstore("stranger"))


@pytest.fixture
async def evidence(lab: Lab, roots: Roots) -> AsyncIterator[EvidenceService]:
    transport = Transport(AddressPolicy(["127.0.0.1"]), extra_ca_pem=lab.ca_file.read_text())
    async with transport:
        client = RegistryClient(transport)
        service = EvidenceService(client, roots=roots)
        try:
            yield service
        finally:
            await service.close()
            await client.close()


async def look(evidence: EvidenceService, image: PushedImage, *roots: str, **members: Any) -> ImageFacts:
    request = EvidenceRequest(
        reference=ImageReference.parse(image.by_digest),
        roots=roots,
        namespace="default",
        service_account="default",
        **members,
    )
    found = (await evidence.gather([request], asyncio.get_running_loop().time() + 60))[request]
    assert isinstance(found, ImageFacts), found
    return found


@pytest.mark.parametrize("form", list(Form))
async def test_a_certified_identity_vouches_under_its_root_only_and_a_refreshed_root_is_asked_anew(
    lab: Lab, registry: Registry, image: PushedImage, evidence: EvidenceService, roots: Roots, form: Form
) -> None:
    who = lab.sigstore.issuers.github("acme/ledger", ref="refs/tags/v1")
    lab.cosign.sign_keyless(registry, image, who, lab.sigstore, form=form)
    found = await look(evidence, image, "private", "stranger")
    private, stranger = roots.content("private"), roots.content("stranger")
    assert private is not None
    assert stranger is not None
    assert found.checked_roots == (private.hash, stranger.hash)
    (vouch,) = found.vouches
    assert vouch.identity is not None
    assert vouch.proof is not None
    assert (vouch.identity.issuer, vouch.identity.subject) == (who.issuer, who.subject)
    assert (vouch.proof.root, vouch.format) == (private.hash, str(form))
    assert vouch.proof.signed_at
    assert (await look(evidence, image, "stranger")).vouches == ()
    roots.contents["stranger"] = roots.contents["private"]
    assert (await look(evidence, image, "stranger")).vouches == (vouch,)
    assert (await look(evidence, image, "nowhere")).checked_roots == ()


@pytest.mark.parametrize("form", list(Form))
async def test_an_attestation_tells_what_each_condition_makes_of_it(
    lab: Lab, registry: Registry, image: PushedImage, evidence: EvidenceService, form: Form
) -> None:
    who = lab.sigstore.issuers.email("scanner@example.com")
    lab.cosign.attest_keyless(
        registry, image, who, lab.sigstore, predicate={"critical": 3}, predicate_type=SCAN, form=form
    )
    conditions = ("predicate.critical <= 5", "predicate.critical == 0")
    found = await look(evidence, image, "private", predicates=(PredicateNeed(SCAN, conditions),))
    assert found.vouches == ()
    (attestation,) = found.attestations
    assert attestation.predicate_type == SCAN
    assert attestation.vouch.identity is not None
    assert attestation.vouch.identity.subject == "scanner@example.com"
    claims = {claim.condition: (claim.holds, "3" in claim.found) for claim in attestation.claims}
    assert claims == {
        condition_name(SCAN, conditions[0]): (True, False),
        condition_name(SCAN, conditions[1]): (False, True),
    }
    assert set(found.checked_conditions) == set(claims)
