"""Conditions evaluated in a fork of a worker process, which the kernel ends when they take too long.

The statement is read once, by the worker; a condition that would hold the interpreter for minutes costs no more than
its limit of CPU time, and the others are evaluated nevertheless. Only for processes without threads: a worker has none.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from countersign.signatures.cel import BadCondition, compiled, context
from countersign.signatures.findings import judged
from countersign.signatures.statements import MAX_DEPTH, too_deep

CONDITION_CPU_SECONDS: Final = 2.0
"""For one condition. CPU time, not time on the wall: a busy machine makes no condition fail."""
CONTEXT_CPU_SECONDS: Final = 10.0
"""For handing the statement to the library: about 2 s for the largest."""
MAX_FOUND_LENGTH: Final = 160

_Outcome = tuple[bool, str]


def evaluate_apart(conditions: Sequence[str], variables: Mapping[str, object]) -> list[_Outcome]:
    """`examine.Evaluate`, for a process without threads."""
    if too_deep(variables):
        return [(False, f"the statement is nested more than {MAX_DEPTH} deep")] * len(conditions)
    outcomes: dict[int, _Outcome] = {}
    used: set[str] = set()
    for number, condition in enumerate(conditions):
        try:
            used.update(compiled(condition).variables())
        except BadCondition as error:
            outcomes[number] = (False, str(error))
    needed = {name: value for name, value in variables.items() if name in used}
    left = [number for number in range(len(conditions)) if number not in outcomes]
    while left:
        found, ended = _in_a_fork([conditions[number] for number in left], needed)
        outcomes.update(zip(left, found, strict=False))
        if len(found) < len(left):
            outcomes[left[len(found)]] = (False, ended)
        left = [number for number in left if number not in outcomes]
    return [outcomes[number] for number in range(len(conditions))]


def _in_a_fork(conditions: Sequence[str], variables: Mapping[str, object]) -> tuple[list[_Outcome], str]:
    """What the fork said before it ended, and why it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            _evaluate(conditions, variables, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    lines = said.split(b"\n")[:-1]  # What follows the last line's end was cut off with the process.
    return [msgspec.json.decode(line, type=_Outcome) for line in lines][: len(conditions)], _reason(status)


def _evaluate(conditions: Sequence[str], variables: Mapping[str, object], writing: int) -> None:
    signal.setitimer(signal.ITIMER_PROF, CONTEXT_CPU_SECONDS)  # SIGPROF, whose default is to end the process
    known = context(variables)
    for condition in conditions:
        signal.setitimer(signal.ITIMER_PROF, CONDITION_CPU_SECONDS)
        holds, found = judged(condition, known, variables)
        os.write(writing, msgspec.json.encode((holds, found[:MAX_FOUND_LENGTH])) + b"\n")


def _reason(status: int) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return f"it takes longer than {CONDITION_CPU_SECONDS:g} s to evaluate"
    return "it cannot be evaluated within the memory that it may take"
