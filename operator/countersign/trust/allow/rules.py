"""The rules of an audience, together: in order or not, and what they make of one use.

Any that is true admits. One that is false, that has no value (it names something that is not known), or that takes too
long does not. A rule that cannot be read at all is no rule that does not admit, but an audience whose owner meant
something that nobody knows: it admits nobody until that is mended.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from countersign.api.audience import AllowRule
from countersign.trust.allow.program import Program, operands, problem, program
from countersign.trust.allow.steps import MAX_STEPS, Failed, Run, TooLong
from countersign.trust.expressions.shown import printable, shown
from countersign.trust.expressions.syntax import BadExpression

MAX_STEPS_TOGETHER: Final = 8_000
"""Of all rules of an audience at one use. Once they are used up, a rule that needs any more does not admit."""
MAX_PHRASE_LENGTH: Final = 160

Read = Callable[[str], Any]
"""The value at a path such as `grant.owner`; None where it is not known."""


class Compiled(NamedTuple):
    """An audience's rules, ready to run."""

    rules: tuple[tuple[AllowRule, Program], ...]
    problem: str = ""
    """Why they cannot be used; empty if they can."""


class Outcome(NamedTuple):
    """What one rule came to."""

    rule: AllowRule
    admits: bool
    found: str = ""
    """What it came upon, if it does not admit. Only where somebody asked."""


def problem_of(rules: Iterable[AllowRule]) -> str:
    """What is wrong with the first that may not stand in an audience; empty if there is none."""
    for rule in rules:
        if found := problem(rule.expression):
            return f"allow rule {rule.name}: {found}"
    return ""


def compiled(rules: Iterable[AllowRule]) -> Compiled:
    """The rules, ready to run. Takes up to some milliseconds for each: do it once, not for each use."""
    made = []
    for rule in rules:
        try:
            made.append((rule, program(rule.expression)))
        except BadExpression as error:
            return Compiled((), f"allow rule {rule.name}: {error}")
    return Compiled(tuple(made))


def admitting(rules: Compiled, read: Read) -> AllowRule | None:
    """The first rule that admits; None if none does. Bounded by `MAX_STEPS` for each and MAX_STEPS_TOGETHER."""
    left = MAX_STEPS_TOGETHER
    for rule, made in rules.rules:
        run = Run(read, made.slots, min(left, MAX_STEPS))
        before = run.left
        if _admits(made, run):
            return rule
        left -= before - max(run.left, 0)
    return None


def _admits(made: Program, run: Run) -> bool:
    try:
        return made.run(run) is True
    except Exception:  # Failed, TooLong, or a value that nobody thought of: whatever it came upon, it does not admit.
        return False


def outcomes(rules: Compiled, read: Read) -> tuple[Outcome, ...]:
    """What each rule comes to by itself, for a person: a few times the work."""
    return tuple(_outcome(rule, made, read) for rule, made in rules.rules)


def _outcome(rule: AllowRule, made: Program, read: Read) -> Outcome:
    try:
        if made.run(Run(read, made.slots)) is True:
            return Outcome(rule, admits=True)
        for operand in operands(rule.expression):
            if operand.run(Run(read, made.slots)) is not True:
                return Outcome(rule, admits=False, found=_values(operand.paths, read) or "it is false")
    except TooLong:
        return Outcome(rule, admits=False, found="it takes too many steps to evaluate")
    except Failed as error:
        return Outcome(rule, admits=False, found=str(error))
    except Exception as error:
        return Outcome(rule, admits=False, found=f"it cannot be evaluated: {printable(str(error))[:80]}")
    return Outcome(rule, admits=False, found="it is false")


def _values(paths: Iterable[str], read: Read) -> str:
    phrase = ""
    for path in paths:
        value = read(path)
        one = f"{path} is not known" if value is None else f"{path} = {_shown(value)}"
        longer = f"{phrase}; {one}" if phrase else one
        if len(longer) > MAX_PHRASE_LENGTH and phrase:
            break
        phrase = longer
    return phrase


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        if value and all(isinstance(one, str) for one in value):
            return shown(" ".join(value), 60)
        return shown(list(value))
    return shown(value)
