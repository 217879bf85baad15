"""The steps of a rule as functions of the state of its run, and the count of what they cost.

An error is a value of its own in CEL: `false && error` is false, `true || error` is true, whichever stands first, and
`all` and `exists` treat their elements alike (langdef.md, "Logical Operators" and "Macros").
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

COMPREHENSIONS: Final = ("all", "exists", "exists_one", "filter", "map")
MAX_STEPS: Final = 2_000
"""Of one rule: a millisecond at the most. What stands in no comprehension is bounded by the rule's length, and free."""
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1


class Failed(Exception):  # noqa: N818 - an outcome of a run, not a defect
    """A part of the rule has no value. The message is a phrase."""


class TooLong(Exception):  # noqa: N818 - likewise; no Failed, since no operator may get over it
    """The run has taken more steps than it may."""


class Run:
    """The state of one run."""

    __slots__ = ("left", "read", "slots")

    def __init__(self, read: Callable[[str], Any], slots: int, steps: int = MAX_STEPS) -> None:
        """`read` gives the value at a path such as `grant.owner`; None where it is not known."""
        self.read = read
        self.slots: list[Any] = [None] * slots
        self.left = steps

    def spend(self, steps: int) -> None:
        """Raises TooLong."""
        self.left -= steps
        if self.left < 0:
            raise TooLong


Step = Callable[[Run], Any]


def read(path: str) -> Step:
    """The value at a path."""

    def run(state: Run) -> Any:
        value = state.read(path)
        if value is None:
            raise Failed(f"{path} is not known")
        return value

    return run


def element_member(of: Step, name: str) -> Step:
    """A member of a record that is an element of a list."""

    def run(state: Run) -> Any:
        value = of(state).get(name)
        if value is None:
            raise Failed(f"an element has no {name}")
        return value

    return run


def present(of: Step) -> Step:
    """Whether such a member is there."""

    def run(state: Run) -> bool:
        try:
            of(state)
        except Failed:
            return False
        return True

    return run


def item(listed: Step, position: Step) -> Step:
    """An element by its place."""

    def run(state: Run) -> Any:
        values, index = listed(state), position(state)
        if not 0 <= index < len(values):
            raise Failed(f"there is no element {index} in a list of {len(values)}")
        return values[index]

    return run


def all_of(operands: Sequence[Step]) -> Step:
    """`&&`: false if one is false, whatever fails besides."""
    if len(operands) == 2:
        return _both(*operands)
    return _joined(operands, decisive=False)


def any_of(operands: Sequence[Step]) -> Step:
    """`||`: true if one is true, whatever fails besides."""
    return _joined(operands, decisive=True)


def _both(first: Step, second: Step) -> Step:
    def run(state: Run) -> bool:
        try:
            if not first(state):
                return False
        except Failed:
            if not second(state):
                return False
            raise
        return second(state) is True

    return run


def _joined(operands: Sequence[Step], *, decisive: bool) -> Step:
    return lambda state: _decided(operands, state, decisive=decisive)


def _decided(steps: Iterable[Step], state: Run, *, decisive: bool) -> bool:
    """The decisive value if some step has it, whatever others fail by. Raises what the first of them failed by."""
    failed: Failed | None = None
    for step in steps:
        try:
            if bool(step(state)) == decisive:
                return decisive
        except Failed as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return not decisive


def equal(first: Step, second: Step, *, equal: bool) -> Step:
    """`==` or `!=` of two values of one type."""
    if equal:
        return lambda state: first(state) == second(state)
    return lambda state: first(state) != second(state)


def equal_lists(first: Step, second: Step, *, equal: bool) -> Step:
    """`==` or `!=` of two lists."""

    def run(state: Run) -> bool:
        one, other = first(state), second(state)
        state.spend(len(one))
        same: bool = tuple(one) == tuple(other)
        return same is equal

    return run


def ordered(operator: str, first: Step, second: Step) -> Step:
    """`<`, `<=`, `>` or `>=` of two values of one type. Texts go by their code points, as in CEL."""
    if operator == "<":
        return lambda state: first(state) < second(state)
    if operator == "<=":
        return lambda state: first(state) <= second(state)
    if operator == ">":
        return lambda state: first(state) > second(state)
    return lambda state: first(state) >= second(state)


def contained(listed: Step, element: Step) -> Step:
    """`in`."""

    def run(state: Run) -> bool:
        wanted, values = element(state), listed(state)
        state.spend(len(values) // 8 + 1)
        found: bool = wanted in values
        return found

    return run


def in_range(value: int) -> int:
    """A number that fits 64 bits; Failed if it does not."""
    if not _INT_MIN <= value <= _INT_MAX:
        raise Failed("a number does not fit 64 bits")
    return value


def comprehension(name: str, listed: Step, body: Step, slot: int, size: int) -> Step:
    """One of COMPREHENSIONS. `size`: nodes of the body, each of which counts as a step for each element."""
    cost = size + 1

    def each(state: Run) -> Any:
        for element in listed(state):
            state.spend(cost)
            state.slots[slot] = element
            yield element

    if name in ("all", "exists"):
        decisive = name == "exists"

        return lambda state: _decided((body for _ in each(state)), state, decisive=decisive)
    if name == "exists_one":
        return lambda state: sum(body(state) for _ in each(state)) == 1
    if name == "filter":
        return lambda state: [element for element in each(state) if body(state)]
    return lambda state: [body(state) for _ in each(state)]
