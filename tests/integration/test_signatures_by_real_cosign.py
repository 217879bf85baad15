"""Signatures made by the real cosign, in real registries, found and judged by the product's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from countersign.gate.evidence.own_credentials import CredentialsFile
from countersign.gate.evidence.service import EvidenceRequest, EvidenceService, PullSecret
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.transport import Transport
from countersign.signatures.keys import parse_public_key
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.needs import PredicateNeed
from countersign.trust.images.reference import ImageReference
from tests.lab.cosign import Form, KeyPair
from tests.lab.images import INDEX, MANIFEST, ImageSpec, PushedImage, Repository
from tests.lab.lab import Lab
from tests.lab.registries import Registry, RegistryKind

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("e2e-signer")


@pytest.fixture(scope="module")
def other_key(lab: Lab) -> KeyPair:
    return lab.cosign.generate_key("e2e-other")


@pytest.fixture(params=[RegistryKind.REFERRERS, RegistryKind.PLAIN])
def registry(lab: Lab, request: pytest.FixtureRequest) -> Registry:
    return lab.registry(request.param)


@pytest.fixture
def repository(registry: Registry, request: pytest.FixtureRequest) -> Repository:
    """A repository of the test's own."""
    return registry.repository(
        "signing/" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")
    )


class Secrets:
    """The pull secret of the lab's private registry, for one namespace."""

    def __init__(self, registry: Registry) -> None:
        username, password = registry.credentials or ("", "")
        content = {"auths": {registry.host: {"username": username, "password": password}}}
        self._secret = PullSecret("kubernetes.io/dockerconfigjson", json.dumps(content).encode())

    async def for_pod(
        self, namespace: str, service_account: str, names: tuple[str, ...], within: float
    ) -> tuple[PullSecret, ...]:
        return (self._secret,) if namespace == "with-secret" else ()


@pytest.fixture
async def evidence(lab: Lab) -> AsyncIterator[EvidenceService]:
    insecure = lab.registry(RegistryKind.INSECURE).host
    transport = Transport(AddressPolicy(["127.0.0.1"]), insecure_hosts=[insecure], extra_ca_pem=lab.ca_file.read_text())
    async with transport:
        client = RegistryClient(transport)
        service = EvidenceService(client, Secrets(lab.registry(RegistryKind.PRIVATE)))
        try:
            yield service
        finally:
            await service.close()
            await client.close()


async def look(
    evidence: EvidenceService, reference: str, *keys: KeyPair, namespace: str = "default", **members: Any
) -> ImageFacts | Unverifiable:
    request = EvidenceRequest(
        reference=ImageReference.parse(reference),
        keys=tuple(parse_public_key(one.public_pem) for one in keys),
        namespace=namespace,
        service_account="default",
        **members,
    )
    return (await evidence.gather([request], asyncio.get_running_loop().time() + 20))[request]


async def vouches(evidence: EvidenceService, reference: str, *keys: KeyPair, **members: Any) -> list[tuple[str, str]]:
    """(format, reference) of each vouch, whoever's."""
    found = await look(evidence, reference, *keys, **members)
    assert isinstance(found, ImageFacts), found
    return [(vouch.format, vouch.reference) for vouch in found.vouches]


@pytest.mark.parametrize("form", list(Form))
async def test_a_signature_by_cosign_vouches_for_its_key_only(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService,
    key: KeyPair, other_key: KeyPair, form: Form,
) -> None:  # fmt: skip
    image = repository.push("v1")
    assert await vouches(evidence, image.by_tag, key) == []
    lab.cosign.sign(registry, image, key, form=form)
    reference = image.repository if form is Form.CLASSIC else ""
    assert await vouches(evidence, image.by_tag, other_key, key) == [(str(form), reference)]
    assert await vouches(evidence, image.by_digest, other_key) == []


async def test_both_formats_by_two_keys_are_all_found(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair, other_key: KeyPair
) -> None:
    image = repository.push("v1")
    for signer in (key, other_key):
        for form in Form:
            lab.cosign.sign(registry, image, signer, form=form, annotations={"build": "42"})
    found = await look(evidence, image.by_tag, key, other_key)
    assert isinstance(found, ImageFacts)
    assert {(vouch.key_fingerprint, vouch.format) for vouch in found.vouches} == {
        (parse_public_key(signer.public_pem).fingerprint, form.value) for signer in (key, other_key) for form in Form
    }


@pytest.mark.parametrize("form", list(Form))
async def test_a_signature_for_another_digest_is_refused_where_it_is_copied_to(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair, form: Form
) -> None:
    signed = repository.push("signed", ImageSpec.distinct("signed"))
    attacked = repository.push("attacked", ImageSpec.distinct("attacked"))
    lab.cosign.sign(registry, signed, key, form=form)
    for name, content in _signature_manifests(registry, repository, signed):
        if form is Form.CLASSIC:
            repository.push_manifest(name.replace(_hex(signed), _hex(attacked)), content, MANIFEST)
        else:
            _attach(registry, repository, json.loads(content) | {"subject": attacked.descriptor()}, attacked)
    assert await vouches(evidence, signed.by_tag, key)
    assert await vouches(evidence, attacked.by_tag, key) == []


@pytest.mark.parametrize("form", list(Form))
async def test_the_same_digest_mirrored_with_its_signature_verifies(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair, form: Form
) -> None:
    image = repository.push("v1")
    lab.cosign.sign(registry, image, key, form=form)
    mirror = registry.repository(repository.name + "-mirror")
    _copy(registry, repository, mirror, repository.get_manifest("v1"), "v1", image.media_type)
    for name, content in _signature_manifests(registry, repository, image):
        _copy(registry, repository, mirror, content, name, MANIFEST)
        if form is Form.BUNDLE:
            _attach(registry, mirror, json.loads(content), image)
    reference = image.repository if form is Form.CLASSIC else ""
    assert await vouches(evidence, f"{mirror.reference}:v1", key) == [(str(form), reference)]


async def test_an_attestation_by_the_key_is_no_signature(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair
) -> None:
    image = repository.push("v1")
    for form in Form:
        lab.cosign.attest(
            registry, image, key, predicate={"builder": "me"}, predicate_type="https://example.com/p", form=form
        )
    assert await vouches(evidence, image.by_tag, key) == []


@pytest.mark.parametrize("form", list(Form))
async def test_an_attestation_counts_for_its_type_and_its_signer_wherever_cosign_keeps_it(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService,
    key: KeyPair, other_key: KeyPair, form: Form,
) -> None:  # fmt: skip
    image = repository.push("v1")
    kind = "https://example.com/p"
    lab.cosign.attest(registry, image, key, predicate={"builder": "me"}, predicate_type=kind, form=form)
    lab.cosign.attest(registry, image, other_key, predicate={"builder": "you"}, predicate_type=kind, form=form)
    lab.cosign.attest(registry, image, key, predicate={}, predicate_type="https://example.com/other", form=form)
    found = await look(evidence, image.by_tag, key, predicates=(PredicateNeed(kind),))
    assert isinstance(found, ImageFacts), found
    assert [(one.predicate_type, one.vouch.key_fingerprint, one.vouch.format) for one in found.attestations] == [
        (kind, parse_public_key(key.public_pem).fingerprint, str(form))
    ]
    assert (found.vouches, found.checked_predicates) == ((), (kind,))
    other = await look(evidence, image.by_tag, key, predicates=(PredicateNeed("https://example.com/none"),))
    assert isinstance(other, ImageFacts)
    assert other.attestations == ()


@pytest.mark.parametrize("form", list(Form))
async def test_signatures_that_cosign_keeps_in_another_repository_are_found_where_the_policy_says(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair, form: Form
) -> None:
    image = repository.push("v1")
    elsewhere = f"{registry.host}/signatures/{form}-{registry.kind}"
    cosign = lab.cosign.storing_in(elsewhere)
    cosign.sign(registry, image, key, form=form)
    kind = "https://example.com/p"
    cosign.attest(registry, image, key, predicate={"builder": "me"}, predicate_type=kind, form=form)
    assert await vouches(evidence, image.by_tag, key) == []
    found = await look(evidence, image.by_tag, key, repositories=(elsewhere,), predicates=(PredicateNeed(kind),))
    assert isinstance(found, ImageFacts), found
    assert [vouch.format for vouch in found.vouches] == [str(form)]
    assert [one.predicate_type for one in found.attestations] == [kind]


@pytest.mark.parametrize("form", list(Form))
async def test_signatures_on_the_platforms_of_an_index_are_found_where_the_policy_says(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair, form: Form
) -> None:
    index = repository.push_index("v1", {"amd64": ImageSpec(cmd=("serve",)), "arm64": ImageSpec(cmd=("other",))})
    found = await look(evidence, index.by_tag, key, platforms=True)
    assert isinstance(found, ImageFacts), found
    below = {config.digest for config in found.configs}
    assert (len(below), found.vouches) == (2, ())
    for digest in below:
        lab.cosign.sign(registry, f"{repository.reference}@{digest}", key, form=form)
    assert await vouches(evidence, index.by_tag, key) == []
    async with asyncio.timeout(30):  # until the short memory of their absence ends
        while not (isinstance(found, ImageFacts) and found.vouches):
            await asyncio.sleep(0.2)
            found = await look(evidence, index.by_tag, key, platforms=True)
    assert {(vouch.digest, vouch.format) for vouch in found.vouches} == {(digest, str(form)) for digest in below}


async def test_a_signed_index_tells_what_each_platform_runs(
    lab: Lab, registry: Registry, repository: Repository, evidence: EvidenceService, key: KeyPair
) -> None:
    index = repository.push_index(
        "v1",
        {
            "amd64": ImageSpec(entrypoint=("/app",), cmd=("serve",)),
            "arm64": ImageSpec(entrypoint=("/app",), cmd=("other",)),
        },
    )
    lab.cosign.sign(registry, index, key)
    found = await look(evidence, index.by_tag, key, want_config=True)
    assert isinstance(found, ImageFacts), found
    assert found.digest == index.digest
    assert found.vouches
    assert [(config.platform, config.entrypoint, config.cmd) for config in found.configs] == [
        ("linux/amd64", ("/app",), ("serve",)),
        ("linux/arm64", ("/app",), ("other",)),
    ]


async def test_a_private_registry_is_read_with_the_pods_pull_secret_and_not_without(
    lab: Lab, evidence: EvidenceService, key: KeyPair
) -> None:
    registry = lab.registry(RegistryKind.PRIVATE)
    image = registry.repository("signing/private").push("v1")
    lab.cosign.sign(registry, image, key)
    found = await look(evidence, image.by_tag, key, namespace="with-secret")
    assert isinstance(found, ImageFacts), found
    assert found.vouches
    refused = await look(evidence, image.by_digest, key, namespace="without")
    assert isinstance(refused, Unverifiable)
    assert (refused.reason, refused.transient) == ("Unauthorized", False)


async def test_a_private_registry_is_read_with_the_gates_own_credentials_where_the_pod_has_none(
    lab: Lab, key: KeyPair, tmp_path: Path
) -> None:
    registry = lab.registry(RegistryKind.PRIVATE)
    image = registry.repository("signing/private-own").push("v1")
    lab.cosign.sign(registry, image, key)
    username, password = registry.credentials or ("", "")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {registry.host: {"username": username, "password": password}}}))
    transport = Transport(AddressPolicy(["127.0.0.1"]), extra_ca_pem=lab.ca_file.read_text())
    async with transport:
        client = RegistryClient(transport)
        for own, verified in ((CredentialsFile(config), True), (None, False)):
            service = EvidenceService(client, own=own)
            found = await look(service, image.by_tag, key)
            assert isinstance(found, ImageFacts) is verified
            await service.close()
        await client.close()


async def test_a_registry_on_plain_http_is_read_where_it_is_listed(
    lab: Lab, evidence: EvidenceService, key: KeyPair
) -> None:
    registry = lab.registry(RegistryKind.INSECURE)
    image = registry.repository("signing/insecure").push("v1")
    lab.cosign.sign(registry, image, key)
    assert await vouches(evidence, image.by_tag, key) == [("bundle", "")]


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize(
    ("kind", "private"),
    [
        ("p384", ec.generate_private_key(ec.SECP384R1())),
        ("p521", ec.generate_private_key(ec.SECP521R1())),
        ("rsa2048", rsa.generate_private_key(65537, 2048)),
        ("rsa4096", rsa.generate_private_key(65537, 4096)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_kind_of_key_that_cosign_signs_with_is_verified(
    lab: Lab, evidence: EvidenceService, tmp_path: Path, kind: str, private: PrivateKeyTypes, form: Form
) -> None:
    registry = lab.registry(RegistryKind.REFERRERS)
    image = registry.repository(f"signing/{kind}-{form}").push("v1")
    imported = _import(lab, private, tmp_path)
    lab.cosign.sign(registry, image, imported, form=form)
    assert [found[0] for found in await vouches(evidence, image.by_tag, imported)] == [str(form)]


def _import(lab: Lab, private: PrivateKeyTypes, folder: Path) -> KeyPair:
    plain = folder / "plain.pem"
    plain.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    prefix = folder / "imported"
    lab.cosign.run("import-key-pair", f"--key={plain}", f"--output-key-prefix={prefix}")
    return KeyPair(prefix.with_suffix(".key"), prefix.with_suffix(".pub"))


def _hex(image: PushedImage) -> str:
    return image.digest.removeprefix("sha256:")


def _signature_manifests(registry: Registry, repository: Repository, image: PushedImage) -> list[tuple[str, bytes]]:
    """Name (a tag for classic, a digest for bundles) and bytes of each signature manifest of the image."""
    classic = f"sha256-{_hex(image)}.sig"
    if classic in repository.tags():
        return [(classic, repository.get_manifest(classic))]
    if registry.kind is RegistryKind.REFERRERS:
        path = f"/v2/{repository.name}/referrers/{image.digest}"
        index = json.loads(registry.http.request("GET", path, expect=200).data)
    else:
        index = json.loads(repository.get_manifest(f"sha256-{_hex(image)}"))
    digests = [descriptor["digest"] for descriptor in index["manifests"]]
    return [(digest, repository.get_manifest(digest)) for digest in digests]


def _attach(registry: Registry, repository: Repository, manifest: dict[str, object], subject: PushedImage) -> None:
    """Push a manifest as a referrer, in whichever way the registry lists it."""
    data = json.dumps(manifest).encode()
    pushed = repository.push_manifest("attached", data, MANIFEST)
    if registry.kind is not RegistryKind.REFERRERS:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [pushed.descriptor()]}
        repository.push_manifest(f"sha256-{_hex(subject)}", index, INDEX)


def _copy(
    registry: Registry, source: Repository, target: Repository, content: bytes, name: str, media_type: str
) -> None:
    manifest = json.loads(content)
    for descriptor in (manifest["config"], *manifest["layers"]):
        path = f"/v2/{source.name}/blobs/{descriptor['digest']}"
        target.push_blob(registry.http.request("GET", path, expect=200).data)
    target.push_manifest(name, content, media_type)
