from collections.abc import AsyncIterator

import pytest

from countersign.cluster.client import ApiClient
from tests.fakes.api_server import FakeApiServer, running


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with running() as fake:
        yield fake


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[ApiClient]:
    async with ApiClient(server.config()) as opened:
        yield opened
