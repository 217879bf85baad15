"""A certificate authority for the registries, and clients that are allowed to talk to loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import RegistryClient
from countersign.registry.courier import Patience
from countersign.registry.transport import Transport
from tests.lab.pki import CertificateAuthority

PATIENCE = Patience(tries=3, first_wait=0.001, longest_wait=0.002)
ClientMaker = Callable[..., AbstractAsyncContextManager[RegistryClient]]


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def client_for(ca: CertificateAuthority) -> ClientMaker:
    @asynccontextmanager
    async def make(
        *allowed: str,
        insecure: tuple[str, ...] = (),
        trusted: bool = True,
        request_seconds: float = 5.0,
        **options: Any,
    ) -> AsyncIterator[RegistryClient]:
        transport = Transport(
            AddressPolicy(allowed),
            insecure_hosts=insecure,
            extra_ca_pem=ca.cert_file.read_text() if trusted else "",
            request_seconds=request_seconds,
        )
        async with transport:
            client = RegistryClient(transport, **{"patience": PATIENCE, **options})
            try:
                yield client
            finally:
                await client.close()

    return make
