"""Whatever was asked before, an answer from memory is the answer of a service that remembers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.needs import PredicateNeed
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import KEY, OTHER_KEY, OTHER_SIGNER, SIGNER, answer, ask, serving

PROVENANCE, SCAN = "https://slsa.dev/provenance/v1", "https://example.com/scan"


@dataclass
class World:
    """A registry with images that differ in who signed what, and a loop to ask it on."""

    runner: asyncio.Runner
    ca: CertificateAuthority
    registry: FakeRegistry
    names: tuple[str, ...]


async def _images(ca: CertificateAuthority) -> tuple[FakeRegistry, tuple[str, ...]]:
    registry = await FakeRegistry(ca).__aenter__()
    unsigned = registry.put_image("team/app", "unsigned", mark="1")
    signed = registry.put_image("team/app", "signed", mark="2")
    registry.put_bundle("team/app", signed, SIGNER)
    registry.put_bundle("team/app", signed, SIGNER, predicate_type=PROVENANCE)
    registry.put_bundle("team/app", signed, OTHER_SIGNER, predicate_type=SCAN)
    both = registry.put_image("team/app", "both", mark="3")
    registry.put_classic_signature("team/app", both, SIGNER, OTHER_SIGNER)
    registry.put_bundle("elsewhere/all", both, OTHER_SIGNER, predicate_type=PROVENANCE)
    for digest in (unsigned, signed, both):
        for signer in (SIGNER, OTHER_SIGNER):
            registry.put_bundle("elsewhere/all", digest, signer)
    tags = ("unsigned", "signed", "both", "missing")
    digests = tuple(f"@{digest}" for digest in (unsigned, signed, both, "sha256:" + "0" * 64))
    return registry, (*(f"team/app:{tag}" for tag in tags), *(f"team/app{digest}" for digest in digests))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ca = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    with asyncio.Runner() as runner:
        registry, names = runner.run(_images(ca))
        yield World(runner, ca, registry, names)
        runner.run(registry.__aexit__(None, None, None))


_MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6]),  # by digest more often: a tag is asked about each time
    "keys": st.sampled_from([(), (KEY,), (OTHER_KEY,), (KEY, OTHER_KEY)]),
    "predicates": st.sets(st.sampled_from([PROVENANCE, SCAN])),
    "elsewhere": st.booleans(),
    "want_config": st.booleans(),
}


@st.composite
def _alike(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Questions that differ from the first in one member each: those that a memory could take for one another."""
    first = {name: draw(values) for name, values in _MEMBERS.items()}
    changes = draw(st.lists(st.sampled_from(sorted(_MEMBERS)), min_size=1, max_size=4))
    return [first, *({**first, name: draw(_MEMBERS[name])} for name in changes)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_alike())
def test_memory_changes_no_answer(world: World, questions: list[dict[str, Any]]) -> None:
    remembered, fresh = world.runner.run(_answers(world, questions))
    assert remembered == fresh


async def _answers(world: World, questions: Sequence[dict[str, Any]]) -> tuple[list[object], list[object]]:
    fresh = []
    async with serving(world.ca) as service:
        remembered = [_comparable(await answer(service, _request(world, one))) for one in questions]
    for one in questions:
        async with serving(world.ca) as service:
            fresh.append(_comparable(await answer(service, _request(world, one))))
    return remembered, fresh


def _request(world: World, question: dict[str, Any]) -> Any:
    where = ("", f"{world.registry.host}/elsewhere/all") if question["elsewhere"] else ("",)
    return ask(
        world.registry,
        world.names[question["image"]],
        keys=question["keys"],
        predicates=tuple(PredicateNeed(one) for one in sorted(question["predicates"])),
        repositories=where,
        want_config=question["want_config"],
    )


def _comparable(found: ImageFacts | Unverifiable) -> object:
    if isinstance(found, Unverifiable):
        return found
    return msgspec.structs.replace(
        found,
        vouches=tuple(sorted(found.vouches, key=repr)),
        attestations=tuple(sorted(found.attestations, key=repr)),
    )
