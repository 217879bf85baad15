"""The lab as fixtures: one control plane for a worker's whole run, one namespace for each test that asks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.lab import builder
from tests.lab.lab import Lab
from tests.lab.progress import PlainProgress
from tests.lab.registries import Registry

if TYPE_CHECKING:
    from tests.stack.governed import Governed
    from tests.stack.installation import Installation

# How long an example takes says how busy the machine is; speed is measured in tests/bench.
settings.register_profile("rules", deadline=None)
settings.load_profile("rules")

_LAB_PROGRAMS = ("control-plane", "registries", "cosign", "sigstore")
_NAMES = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow`: tests marked slow, too."""
    parser.addoption("--slow", action="store_true", help="run the tests that wait for minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whatever uses the lab is marked so: `pytest -m "not lab"` runs the rest. Slow tests wait for `--slow`."""
    later = pytest.mark.skip(reason="waits for minutes: pytest --slow runs it")
    for item in items:
        if {"lab", "countersign", "helm_lab"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("lab")
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(later)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the services said last stands below the failure of a test that used them."""
    report = yield
    if report.failed:
        given = getattr(item, "funcargs", {}).values()
        installations = [getattr(one, "countersign", one) for one in given]
        # Each once, and what is none has nothing to say.
        for one in {id(one): one for one in installations if hasattr(one, "last_words")}.values():
            report.sections.append(("what the services said last", one.last_words()))
    return report


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> None:
    """The lab's programs. Missing ones are built, unless COUNTERSIGN_LAB=off, which skips the test."""
    missing = builder.missing(_LAB_PROGRAMS)
    if missing and os.environ.get("COUNTERSIGN_LAB") == "off":
        names = ", ".join(program.name for program in missing)
        pytest.skip(f"COUNTERSIGN_LAB=off and not built: {names} (build with `python -m tests.lab build`)")
    if missing:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            builder.ensure(_LAB_PROGRAMS, PlainProgress())


@pytest.fixture(scope="session")
def lab(programs: None) -> Iterator[Lab]:
    """A running control plane, shared: leave nothing in it that binds other tests."""
    with Lab.start() as running:
        yield running


@pytest.fixture(scope="session")
def countersign(programs: None) -> Iterator[Installation]:
    """Countersign, installed and running, on a control plane of its own: its guards bind nobody else's tests."""
    from tests.stack.installation import Installation

    with Lab.start() as own, Installation.start(own) as running:
        yield running


@pytest.fixture(scope="module")
def helm_lab(programs: None) -> Iterator[Lab]:
    """A control plane for tests that install and remove the chart: each leaves it as it was."""
    with Lab.start() as own:
        yield own


@pytest.fixture(scope="module")
def governed(countersign: Installation) -> Governed:
    """A governed namespace, one for each module of tests."""
    from tests.stack.governed import govern

    return govern(countersign)


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A fresh namespace, deleted afterwards without waiting."""
    name = lab.create_namespace(f"test-{next(_NAMES)}")
    yield name
    lab.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def referrers_registry(lab: Lab) -> Registry:
    """A registry with the referrers API."""
    return lab.registry("referrers")


@pytest.fixture(scope="session")
def plain_registry(lab: Lab) -> Registry:
    """A registry without the referrers API."""
    return lab.registry("plain")
