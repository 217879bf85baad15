"""Conditions evaluated in a fork of a worker process, which the kernel ends when they take too long.

The statement is read once, by the worker; a condition that would hold the interpreter for minutes costs no more than
its limit of CPU time, and the others are evaluated nevertheless. Only for processes without threads: a worker has none.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from countersign.signatures.conditions.cel import BadCondition, compiled, context
from countersign.signatures.conditions.findings import judged
from countersign.signatures.formats.statements import MAX_DEPTH, Said, too_deep
from countersign.trust.evidence.conditions import COMPREHENSIONS, members_named
from countersign.trust.expressions.shown import printable
from countersign.trust.expressions.words import tokens_of

CONDITION_CPU_SECONDS: Final = 2.0
"""For one condition. CPU time, not time on the wall: a busy machine makes no condition fail."""
CONTEXT_CPU_SECONDS: Final = 10.0
"""For handing the statement to the library: about 2 s for the largest."""
MAX_FOUND_LENGTH: Final = 160
MAX_BYTES_INLINE: Final = 64 * 1024
MAX_STEPS_INLINE: Final = 1_000_000

_Outcome = tuple[bool, str]


def evaluate_apart(conditions: Sequence[str], said: Said) -> list[_Outcome]:
    """`examine.Evaluate`, for a process without threads."""
    outcomes: dict[int, _Outcome] = {}
    for number, condition in enumerate(conditions):
        try:
            compiled(condition)  # Here, so that the next statement finds it compiled
        except BadCondition as error:
            outcomes[number] = (False, printable(str(error))[:MAX_FOUND_LENGTH])
    left = [number for number in range(len(conditions)) if number not in outcomes]
    if _cheap([conditions[number] for number in left], said.payload):
        with contextlib.suppress(Exception):  # A fork is then tried, whose end harms nobody.
            outcomes.update(zip(left, list(_evaluated([conditions[number] for number in left], said)), strict=True))
            left = []
    while left:
        found, ended = _in_a_fork([conditions[number] for number in left], said)
        outcomes.update(zip(left, found, strict=False))
        if len(found) < len(left):
            outcomes[left[len(found)]] = (False, ended)
        left = [number for number in left if number not in outcomes]
    return [outcomes[number] for number in range(len(conditions))]


def _cheap(conditions: Sequence[str], payload: bytes) -> bool:
    """Whether they take no more than some milliseconds, which is what a fork costs.

    No list or object has more elements than the payload has commas, plus one, where no operator makes longer ones. Each
    comprehension goes through one of them, and the innermost may compare two.
    """
    elements = payload.count(b",") + 1
    return len(payload) <= MAX_BYTES_INLINE and all(
        not shape.lengthens
        and not (shape.comprehensions and shape.matches)
        and elements ** (shape.comprehensions + 1) * len(condition) <= MAX_STEPS_INLINE
        for condition in conditions
        for shape in (_shape(condition),)
    )


class _Shape(NamedTuple):
    """What of a condition tells how long it may take. What stands in its strings tells nothing."""

    lengthens: bool
    """It has an operator that makes lists and texts longer."""
    comprehensions: int
    matches: bool


@lru_cache(maxsize=512)
def _shape(condition: str) -> _Shape:
    tokens = tokens_of(condition)
    if isinstance(tokens, str):
        return _Shape(lengthens=True, comprehensions=0, matches=False)
    names = [token.text for token in tokens if token.kind == "name"]
    return _Shape(
        any(token.kind == "mark" and token.text == "+" for token in tokens),
        sum(names.count(one) for one in COMPREHENSIONS),
        "matches" in names,
    )


def _in_a_fork(conditions: Sequence[str], said: Said) -> tuple[list[_Outcome], str]:
    """What the fork said before it ended, and why it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            for outcome in _evaluated(conditions, said, timed=True):
                os.write(writing, msgspec.json.encode(outcome) + b"\n")
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    lines = told.split(b"\n")[:-1]  # What follows the last line's end was cut off with the process.
    return [msgspec.json.decode(line, type=_Outcome) for line in lines][: len(conditions)], _reason(status)


def _evaluated(conditions: Sequence[str], said: Said, *, timed: bool = False) -> Iterator[_Outcome]:
    _limit(CONTEXT_CPU_SECONDS, timed)
    variables = said.variables()
    if too_deep(variables):
        for _ in conditions:
            yield False, f"the statement is nested more than {MAX_DEPTH} deep"
        return
    known = context(_needed(conditions, variables))
    del variables  # Of a large statement it takes as much memory as the library's copy.
    for condition in conditions:
        _limit(CONDITION_CPU_SECONDS, timed)
        holds, found = judged(condition, known, said.variables)
        yield holds, found[:MAX_FOUND_LENGTH]


def _limit(seconds: float, timed: bool) -> None:
    if timed:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, whose default is to end the process


def _needed(conditions: Sequence[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """What of the variables the library must copy: of an object of which only members are named, no others."""
    needed: dict[str, Any] = {}
    for name in {one for condition in conditions for one in compiled(condition).variables()} & variables.keys():
        value = variables[name]
        members = [members_named(condition, name) for condition in conditions]
        if isinstance(value, dict) and None not in members:
            named = {member for several in members for member in several or ()}
            value = {member: inner for member, inner in value.items() if member in named}
        needed[name] = value
    return needed


def _reason(status: int) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return f"it takes longer than {CONDITION_CPU_SECONDS:g} s to evaluate"
    return "it cannot be evaluated within the memory that it may take"
