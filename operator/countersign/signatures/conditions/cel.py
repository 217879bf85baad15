"""CEL, by the Rust implementation (`common-expression-language`): compiled once a process, evaluated without a limit.

Nothing here bounds the time that a condition takes: a `map` over 30,000 elements alone takes half a minute, since the
library copies the list with each. So it is never called in a process that serves anybody, but in one that can be killed
(`apart`).
"""

import sys
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol, cast

from countersign.trust.evidence.conditions import problem


class Program(Protocol):
    """A compiled expression."""

    def execute(self, context: Any) -> Any:
        """Its value; raises whatever it came upon."""

    def variables(self) -> list[str]:
        """Names in it, those of comprehensions included."""


class BadCondition(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The expression cannot be evaluated at all. The message says why."""


@lru_cache(maxsize=512)
def compiled(expression: str) -> Program:
    """Raises BadCondition. Bounded by `conditions.problem`, it takes about 1 ms at the most."""
    why = problem(expression)
    if why:
        raise BadCondition(why)
    return compiled_part(expression)


@lru_cache(maxsize=512)
def compiled_part(expression: str) -> Program:
    """A part of an expression that was compiled before. Raises BadCondition."""
    try:
        return cast("Program", _library().compile(expression))
    except ValueError as error:
        # "Failed to parse expression '...': ERROR: <input>:1:34: invalid double literal", and then a drawing
        told = str(error).partition("ERROR: <input>:")[2].split("\n")[0][:100]
        raise BadCondition(f"it is no CEL (line and column {told})" if told else "it is no CEL") from None


def context(variables: Mapping[str, object]) -> Any:
    """Variables as the library keeps them: copied, at about 30 ms a megabyte of JSON."""
    try:
        return _library().Context(dict(variables))
    except (OverflowError, ValueError):
        # As RFC 8259, section 6 has it: what does not fit a 64-bit integer is a double.
        return _library().Context({name: _with_doubles(value) for name, value in variables.items()})


def _with_doubles(value: object) -> object:
    if isinstance(value, dict):
        return {name: _with_doubles(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_doubles(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


@lru_cache(maxsize=1)
def _library() -> Any:
    # Its __init__ loads a command line with prompt_toolkit, rich and typer: 0.3 s and 25 MB that no worker needs.
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    import cel

    return cel
