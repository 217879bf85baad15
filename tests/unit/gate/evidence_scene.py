"""A registry, an evidence service that asks it, and questions to put: for the tests of gate/evidence."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from countersign.gate.evidence.request import EvidenceRequest, PullSecret, PullSecretsUnavailable
from countersign.gate.evidence.service import EvidenceService
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.courier import Patience
from countersign.registry.transport import Transport
from countersign.signatures.keys import parse_public_key
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.images.reference import ImageReference
from tests.fakes.registry import FakeRegistry
from tests.fakes.signing import make_key, pem_of
from tests.lab.pki import CertificateAuthority

PATIENCE = Patience(tries=3, first_wait=0.001, longest_wait=0.002)
SIGNER, OTHER_SIGNER = make_key(), make_key()
KEY, OTHER_KEY = parse_public_key(pem_of(SIGNER)), parse_public_key(pem_of(OTHER_SIGNER))


@dataclass
class FakePullSecrets:
    """By namespace: user and password for every registry, as a docker configuration."""

    accounts: dict[str, tuple[str, str]] = field(default_factory=dict)
    host: str = ""
    broken: bool = False

    async def for_pod(
        self, namespace: str, service_account: str, names: tuple[str, ...], within: float
    ) -> Sequence[PullSecret]:
        assert within > 0
        if self.broken:
            raise PullSecretsUnavailable("the API server does not answer")
        if namespace not in self.accounts:
            return ()
        username, password = self.accounts[namespace]
        content = {"auths": {self.host: {"username": username, "password": password}}}
        return (PullSecret("kubernetes.io/dockerconfigjson", json.dumps(content).encode()),)


@asynccontextmanager
async def serving(
    ca: CertificateAuthority, *, request_seconds: float = 5.0, patience: Patience | None = None, **options: Any
) -> AsyncIterator[EvidenceService]:
    transport = Transport(
        AddressPolicy(["127.0.0.1"]), extra_ca_pem=ca.cert_file.read_text(), request_seconds=request_seconds
    )
    async with transport:
        client = RegistryClient(transport, patience=patience or PATIENCE, observer=options.get("observer"))
        service = EvidenceService(client, **options)
        try:
            yield service
        finally:
            await service.close()
            await client.close()


def ask(registry: FakeRegistry, rest: str, **members: Any) -> EvidenceRequest:
    members = {"keys": (KEY,), "namespace": "team-a", "service_account": "default", **members}
    return EvidenceRequest(reference=ImageReference.parse(f"{registry.host}/{rest}"), **members)


async def answer(service: EvidenceService, request: EvidenceRequest, within: float = 5.0) -> ImageFacts | Unverifiable:
    deadline = asyncio.get_running_loop().time() + within
    return (await service.gather([request], deadline))[request]


async def facts(service: EvidenceService, request: EvidenceRequest) -> ImageFacts:
    found = await answer(service, request)
    assert isinstance(found, ImageFacts), found
    return found


async def refusal(service: EvidenceService, request: EvidenceRequest, within: float = 5.0) -> Unverifiable:
    found = await answer(service, request, within)
    assert isinstance(found, Unverifiable), found
    return found
