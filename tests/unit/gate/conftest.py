"""Registries and evidence services for the tests of gate/evidence."""

from collections.abc import AsyncIterator

import pytest

from countersign.gate.evidence.service import EvidenceService
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import serving


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=["referrers", "plain"])
async def registry(ca: CertificateAuthority, request: pytest.FixtureRequest) -> AsyncIterator[FakeRegistry]:
    """A registry with the referrers API, and one without."""
    async with FakeRegistry(ca, referrers_api=request.param == "referrers") as fake:
        yield fake


@pytest.fixture
async def one_registry(ca: CertificateAuthority) -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(ca) as fake:
        yield fake


@pytest.fixture
async def service(ca: CertificateAuthority) -> AsyncIterator[EvidenceService]:
    async with serving(ca) as one:
        yield one
