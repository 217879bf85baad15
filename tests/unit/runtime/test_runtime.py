"""The scaffolding of a service process."""

import asyncio
import io
import json
import logging
import os
import signal
from collections.abc import Iterator

import aiohttp
import pytest
import structlog
from prometheus_client import Counter

from countersign.runtime.health import HealthServer
from countersign.runtime.logs import configure_logging
from countersign.runtime.metrics import new_registry
from countersign.runtime.service import run_service


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", json=True, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_readyz_tells_what_is_missing_and_healthz_is_apart() -> None:
    state: bool | str = "policies: not listed yet"
    async with HealthServer("127.0.0.1", 0, lambda: state) as server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}"
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "policies: not listed yet\n")
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        state = True
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        state = False
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "not ready\n")


async def test_metrics_are_those_of_the_given_registry_only() -> None:
    registry = new_registry()
    Counter("countersign_test_things", "Things.", registry=registry).inc(3)
    server = HealthServer("127.0.0.1", 0, lambda: True, registry=registry)
    async with (
        server,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}/metrics") as answer,
    ):
        text = await answer.text()
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert "countersign_test_things_total 3.0" in text
    assert "countersign_build_info{version=" in text


def test_our_lines_and_those_of_libraries_are_json_objects(logs: io.StringIO) -> None:
    structlog.get_logger().warning("denied", pod="shop/api", codes=("ImageUnsigned",))
    structlog.get_logger().debug("not shown")
    logging.getLogger("some.library").error("went %s", "wrong")
    ours, theirs = (json.loads(line) for line in logs.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["pod"], ours["codes"]) == (
        "denied",
        "warning",
        "shop/api",
        ["ImageUnsigned"],
    )
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("went wrong", "error", "some.library")


def test_an_exception_is_logged_within_the_one_line_and_without_locals(logs: io.StringIO) -> None:
    secret = "s3cr" + "3t"
    try:
        bytes.fromhex(secret)
    except ValueError:
        structlog.get_logger().exception("failed", review="r1")
    (line,) = logs.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "ValueError"
    assert secret not in line


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="debug, info"):
        configure_logging("loud")


def test_sigterm_ends_a_service_in_order() -> None:
    closed = []

    async def main(stop: asyncio.Event) -> None:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
        await stop.wait()
        closed.append(True)

    assert run_service(main) == 0
    assert closed == [True]


def test_a_second_signal_cancels_what_will_not_end() -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    assert run_service(main) == 1


def test_a_service_that_raises_exits_with_1_and_says_so(logs: io.StringIO) -> None:
    async def main(_stop: asyncio.Event) -> None:
        raise RuntimeError("no certificate")

    assert run_service(main) == 1
    assert "no certificate" in logs.getvalue()
