"""From a policy to a verdict, with what the real cosign and a private Sigstore leave at a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from countersign.api.image_rule import Authority, ImageRule, KeylessIdentity
from countersign.gate.evidence.inquiry import evidence_for
from countersign.gate.evidence.roots import RootContent
from countersign.gate.evidence.service import EvidenceService
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.transport import Transport
from countersign.signatures.roots.trust_root import TrustRoot, parse_trust_root
from countersign.trust.evidence.needs import evidence_needs
from countersign.trust.policies.policy import PolicySnapshot, RootFacts
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import decode, encode, make
from countersign.trust.verdicts.denial import message
from countersign.trust.verdicts.verdict import Evidence, Verdict, judge
from tests.lab.cosign import Form
from tests.lab.images import PushedImage
from tests.lab.lab import Lab
from tests.lab.registries import Registry, RegistryKind
from tests.unit.trust.build import NOW, cluster_policy, container, keyless, pod, snapshot, subject, token, wants

pytestmark = pytest.mark.lab

SCAN = "https://example.com/scan/v1"
CLEAN = "predicate.critical == 0"


@pytest.fixture(params=[RegistryKind.REFERRERS, RegistryKind.PLAIN])
def registry(lab: Lab, request: pytest.FixtureRequest) -> Registry:
    return lab.registry(request.param)


@pytest.fixture
def image(registry: Registry, request: pytest.FixtureRequest) -> PushedImage:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")
    return registry.repository(f"verdicts/{name}").push("v1")


@pytest.fixture
def root(lab: Lab) -> tuple[TrustRoot, bytes]:
    content = lab.sigstore.trusted_root.read_bytes()
    return parse_trust_root(content), content


@pytest.fixture
async def evidence(lab: Lab, root: tuple[TrustRoot, bytes]) -> AsyncIterator[EvidenceService]:
    class Roots:
        def content(self, name: str) -> RootContent | None:
            return RootContent(root[0].hash, root[1]) if name == "private" else None

    async with Transport(AddressPolicy(["127.0.0.1"]), extra_ca_pem=lab.ca_file.read_text()) as transport:
        client = RegistryClient(transport)
        service = EvidenceService(client, roots=Roots())
        yield service
        await service.close()
        await client.close()


class World:
    """One image in one pod, and what the policies make of it."""

    def __init__(self, image: PushedImage, root: TrustRoot, service: EvidenceService) -> None:
        self.roots = {"private": RootFacts(root.hash, root.anchors)}
        self.of = subject(pod(container(image=image.by_digest)))
        self.glob = image.by_digest.partition("@")[0]
        self.service = service

    def policy(self, *authorities: Authority, condition: str = CLEAN, roots: object = None) -> PolicySnapshot:
        rule = ImageRule(
            name="app",
            globs=(self.glob,),
            authorities=authorities,
            attestors=(keyless("scanner", _who("scanner@example.com"), root="private"),),
            attestations=(
                wants("scan", "scanner", predicate_type=SCAN, conditions=(condition,), max_age_seconds=86400),
            ),
        )
        policy = cluster_policy(images=(rule,), tokens=(token(),))
        return snapshot(policy, roots=self.roots if roots is None else roots)  # type: ignore[arg-type]

    async def evidence(self, given: PolicySnapshot) -> Evidence:
        needs = evidence_needs(governing(given, self.of), self.of.pod, given.roots)
        return await evidence_for(self.service, needs, None, self.of, asyncio.get_running_loop().time() + 60)

    def judged(self, given: PolicySnapshot, found: Evidence) -> Verdict:
        import datetime

        return judge(given, self.of, found, stage="mutate", now=datetime.datetime.now(datetime.UTC))


def _who(subject: str) -> KeylessIdentity:
    return KeylessIdentity(issuer_reg_exp="https://127[.]0[.]0[.]1.*|https?://.*", subject=subject)


@pytest.mark.parametrize("form", list(Form))
async def test_identity_extension_root_and_condition_decide(
    lab: Lab,
    registry: Registry,
    image: PushedImage,
    root: tuple[TrustRoot, bytes],
    evidence: EvidenceService,
    form: Form,
) -> None:
    ci = lab.sigstore.issuers.github("acme/ledger", ref="refs/tags/v1")
    scanner = lab.sigstore.issuers.email("scanner@example.com")
    lab.cosign.sign_keyless(registry, image, ci, lab.sigstore, form=form)
    lab.cosign.attest_keyless(
        registry, image, scanner, lab.sigstore, predicate={"critical": 0}, predicate_type=SCAN, form=form
    )
    world = World(image, root[0], evidence)
    tagged = KeylessIdentity(
        issuer=ci.issuer,
        subject_reg_exp=r"https://github\.com/acme/ledger/.*",
        extensions_reg_exp={"sourceRepositoryRef": "refs/tags/.*"},
    )
    good = world.policy(keyless("ci", tagged, root="private", require=("TransparencyLog",)))
    found = await world.evidence(good)
    verdict = world.judged(good, found)
    assert message(verdict) == ""
    assert [one.audience for one in verdict.tokens]
    [used] = verdict.evidence_used
    assert [(one.authority, one.subject) for one in used.evidence] == [
        ("ci", ci.subject),
        ("scanner", "scanner@example.com"),
    ]

    # The same facts under other policies: facts carry no verdict.
    branch = KeylessIdentity(
        issuer=ci.issuer, subject=ci.subject, extensions={"sourceRepositoryRef": "refs/heads/main"}
    )
    text = message(world.judged(world.policy(keyless("ci", branch, root="private")), found))
    assert text.startswith("ImageUnsigned: ")
    assert f"signed by {ci.subject} of issuer {ci.issuer}" in text
    emptied = {"private": RootFacts(root[0].hash, frozenset())}
    assert "EvidenceRoot private lacks" in message(
        world.judged(world.policy(keyless("ci", tagged, root="private"), roots=emptied), found)
    )
    assert message(world.judged(world.policy(keyless("ci", tagged, root="gone")), found)).startswith(
        "EvidenceRootMissing"
    )

    strict = world.policy(keyless("ci", tagged, root="private"), condition="predicate.critical > 2")
    text = message(world.judged(strict, await world.evidence(strict)))
    assert text.startswith("AttestationFailed: ")
    assert "predicate.critical" in text

    images = {image: facts for image, facts in found.items() if not hasattr(facts, "transient")}
    receipt = make(world.of, good.policies, images, now=NOW, nonce="n" * 32)
    assert decode(encode(receipt)).images == images
