"""The functions that a rule may call: CEL's own for texts and times, and `cidr` as Kubernetes has it.

Texts and times: cel-spec, doc/langdef.md, "List of Standard Definitions". Addresses: k8s.io/apiserver,
pkg/cel/library/cidr.go. A pattern, a range or a time is written out in the rule, so that it is read once, and a slip
in it is told when the rule is applied.
"""

import ipaddress
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Final, NamedTuple

from countersign.api import clock
from countersign.trust.allow.steps import Failed, Run, Step
from countersign.trust.allow.variables import BOOL, CIDR, INT, STRING, TIMESTAMP, Type
from countersign.trust.expressions.syntax import BadExpression
from countersign.trust.policies.patterns import Pattern

CONSTANTS: Final = {"timestamp": "timestamp('2026-01-02T03:04:05Z')", "cidr": "cidr('10.0.0.0/8')"}
_CHARACTERS_A_STEP: Final = 256
MAX_PATTERN_SIZE: Final = 128
"""Instructions. A pattern for a UUID has 72, a class of all letters of Unicode 1,200."""
_PATTERN_STEPS: Final = 4
_PATTERN_WORK_A_STEP: Final = 64
"""Instructions times characters: the most that RE2 takes, when its automaton outgrows the memory that it may have."""
_ADDRESS_STEPS: Final = 16
"""To read an address takes some microseconds."""


class Method(NamedTuple):
    """A function of a value."""

    takes: tuple[Type, ...]
    gives: Type
    make: Callable[[Step, Sequence[Step], Sequence[object]], Step]
    """From the value, the arguments, and as many literals (None for an argument that is none)."""


def constant_of(name: str, argument: object) -> tuple[Type, object] | None:
    """The value of `timestamp(...)` or `cidr(...)`; None if it is neither. Raises BadExpression."""
    if name not in CONSTANTS or not isinstance(argument, str):
        return None
    try:
        if name == "timestamp":
            return TIMESTAMP, clock.parse(argument)
        return CIDR, ipaddress.ip_network(argument)
    except ValueError as error:
        raise BadExpression(f"{name}: {str(error)[:120]}; write it as {CONSTANTS[name]}") from None


def _tested(test: Callable[[str, str], bool]) -> Method:
    def make(of: Step, arguments: Sequence[Step], _: Sequence[object]) -> Step:
        [argument] = arguments

        def run(state: Run) -> bool:
            text = of(state)
            state.spend(len(text) // _CHARACTERS_A_STEP)
            return test(text, argument(state))

        return run

    return Method((STRING,), BOOL, make)


def _matches(of: Step, _: Sequence[Step], literals: Sequence[object]) -> Step:
    [text] = literals
    if not isinstance(text, str):
        raise BadExpression("matches takes a pattern that is written out, such as matches('^/v1/[a-z]+$')")
    pattern = Pattern(text)
    if pattern.problem:
        raise BadExpression(f"matches({text[:60]!r}): {pattern.problem[:120]}")
    size = pattern.size
    if size > MAX_PATTERN_SIZE:
        raise BadExpression(
            f"matches({text[:60]!r}): the pattern is too large, {size} instructions and not {MAX_PATTERN_SIZE}: write "
            "[a-z] for a class of Unicode, and + for a counted repetition"
        )

    def run(state: Run) -> bool:
        value = of(state)
        state.spend(_PATTERN_STEPS + len(value) * size // _PATTERN_WORK_A_STEP)
        try:
            return pattern.occurs_in(value)
        except ValueError as error:
            raise Failed(str(error)) from None

    return run


def _contains_ip(of: Step, arguments: Sequence[Step], _: Sequence[object]) -> Step:
    [argument] = arguments

    def run(state: Run) -> bool:
        state.spend(_ADDRESS_STEPS)
        text = argument(state)
        try:
            return ipaddress.ip_address(text) in of(state)
        except ValueError:
            raise Failed("what containsIP takes is no IP address") from None

    return run


def _of_time(read: Callable[[datetime], int]) -> Method:
    return Method((), INT, lambda of, _, __: lambda state: read(of(state)))


METHODS: Final[dict[tuple[str, str], Method]] = {
    ("string", "startsWith"): _tested(str.startswith),
    ("string", "endsWith"): _tested(str.endswith),
    ("string", "contains"): _tested(lambda text, part: part in text),
    ("string", "matches"): Method((STRING,), BOOL, _matches),
    ("cidr", "containsIP"): Method((STRING,), BOOL, _contains_ip),
    ("timestamp", "getFullYear"): _of_time(lambda time: time.year),
    ("timestamp", "getMonth"): _of_time(lambda time: time.month - 1),
    ("timestamp", "getDate"): _of_time(lambda time: time.day),
    ("timestamp", "getDayOfMonth"): _of_time(lambda time: time.day - 1),
    ("timestamp", "getDayOfWeek"): _of_time(lambda time: time.isoweekday() % 7),
    ("timestamp", "getDayOfYear"): _of_time(lambda time: time.toordinal() - date(time.year, 1, 1).toordinal()),
    ("timestamp", "getHours"): _of_time(lambda time: time.hour),
    ("timestamp", "getMinutes"): _of_time(lambda time: time.minute),
    ("timestamp", "getSeconds"): _of_time(lambda time: time.second),
}
"""By the kind of the value and the name. Times are in UTC; CEL counts months, and days but for getDate, from 0."""
