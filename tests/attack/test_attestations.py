"""Whoever may push to a registry, and whoever may write a policy, against the process that judges attestations."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from countersign.runtime.workers import WorkerError, Workers
from countersign.signatures.examine import Candidate, Question, pack, unpack
from tests.fakes.signing import bundle, make_key, pem_of, statement

DIGEST = "sha256:" + "ab" * 32
KIND = "https://example.com/p"
KEY = make_key()
FUNCTION = "countersign.signatures.examine:examine_packed"
BOMB = "predicate.l.all(x, predicate.l.all(y, x.name != y.name + 'z'))"


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers(1)
    yield workers
    await workers.close()


def attested(predicate: object) -> Candidate:
    return Candidate(form="bundle", data=bundle(KEY, statement(DIGEST, KIND, predicate=predicate)))


async def claims(
    workers: Workers, candidate: Candidate, *conditions: str, seconds: float = 120
) -> tuple[tuple[bool, str], ...]:
    question = Question(digest=DIGEST, keys=(pem_of(KEY),), predicates={KIND: conditions})
    deadline = asyncio.get_running_loop().time() + seconds
    found = unpack(await workers.run(FUNCTION, *pack(candidate, question), deadline=deadline))
    return tuple((claim.holds, claim.found) for one in found.attestations for claim in one.claims)


async def test_a_condition_that_would_take_hours_fails_alone_while_the_service_goes_on(workers: Workers) -> None:
    many = attested({"l": [{"name": f"package-{number}"} for number in range(100_000)]})
    work = asyncio.create_task(claims(workers, many, "predicate.l.size() == 100000", BOMB, "predicate.l[0].name != ''"))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert await work == ((True, ""), (False, "it takes longer than 2 s to evaluate"), (True, ""))
    assert turns > 100


async def test_conditions_that_together_take_longer_than_a_request_may_are_killed_at_its_deadline(
    workers: Workers,
) -> None:
    many = attested({"l": [{"name": f"package-{number}"} for number in range(100_000)]})
    assert await claims(workers, attested({}), "true") == ((True, ""),)
    with pytest.raises(WorkerError) as caught:
        await claims(workers, many, *[f"{BOMB} && {number} > 0" for number in range(8)], seconds=1)
    assert caught.value.problem == "Timeout"
    assert await claims(workers, attested({}), "true") == ((True, ""),)


async def test_a_condition_that_takes_all_memory_fails_alone() -> None:
    workers = Workers(1, memory_bytes=256 * 1024 * 1024)
    eats = f"({' + '.join(['predicate.s'] * 60)}).size() == 0"
    found = await claims(workers, attested({"s": "x" * 8_000_000}), "size(predicate.s) == 8000000", eats, "true")
    await workers.close()
    assert [holds for holds, _ in found] == [True, False, True]
    assert found[1][1] == "it cannot be evaluated within the memory that it may take"


async def test_a_statement_that_takes_all_memory_to_read_comes_to_nothing_and_the_next_is_judged() -> None:
    workers = Workers(1, memory_bytes=160 * 1024 * 1024)
    question = Question(digest=DIGEST, keys=(pem_of(KEY),), predicates={KIND: ()})
    empties = b'{"l": [' + b"[]," * 1_900_000 + b"[]]}"
    payload = statement(DIGEST, KIND)[:-1] + b', "x": ' + empties + b"}"
    candidate = Candidate(form="bundle", data=bundle(KEY, payload))
    deadline = asyncio.get_running_loop().time() + 120
    found = unpack(await workers.run(FUNCTION, *pack(candidate, question), deadline=deadline))
    assert (found.vouches, found.attestations) == ((), ())
    assert found.problem == "Malformed: it takes more memory to read than it may"
    assert await claims(workers, attested({}), "true") == ((True, ""),)
    await workers.close()


async def test_a_deeply_nested_statement_is_not_handed_to_the_library(workers: Workers) -> None:
    """Objects as deep as the reader takes them: copied by recursion, they would overrun the library's stack."""
    deep = json.loads('{"a":' * 900 + "1" + "}" * 900)
    found = await claims(workers, attested(deep), "has(predicate.a)")
    assert found == ((False, "the statement is nested more than 128 deep"),)
    assert await claims(workers, attested({}), "true") == ((True, ""),)
