"""Rules of audiences as properties: any text is read or refused, what is read means what it means in CEL, every run
ends within its steps, and no rule makes a token active that is not."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from countersign.access.rules import weigh
from countersign.api.audience import AllowRule
from countersign.signatures.conditions.cel import compiled_part, context
from countersign.trust.allow.program import MAX_EXPRESSION_LENGTH, problem, program
from countersign.trust.allow.rules import MAX_STEPS_TOGETHER, admitting, compiled, outcomes
from countersign.trust.allow.steps import MAX_STEPS, Failed, Run, TooLong
from tests.allow_strategies import VALUES, conditions, nested, read
from tests.unit.access.cases import FLIPS, active

_flips = st.lists(st.sampled_from(sorted(FLIPS)), min_size=1, max_size=4, unique=True)
_WORDS = (
    "request.path", "token", "grant.evidence", "e", "s", ".", ",", "(", ")", "[", "]", "{", "}", "!", "-", "+", "&&",
    "||", "?", ":", "==", "in", "<", "'a'", '"b"', "r'x'", "1", "0x1F", "1.5", "true", "null", "has", "size", "all",
    "exists", "map", "filter", "matches", "startsWith", "cidr", "timestamp",
)  # fmt: skip


def ours(expression: str) -> Any:
    """What we make of it: true, false or an error."""
    made = program(expression)
    try:
        return made.run(Run(read, made.slots))
    except Failed:
        return Failed


def theirs(expression: str) -> Any:
    """What the library for attestations makes of it."""
    try:
        return compiled_part(expression).execute(context(nested()))
    except BaseException:  # its panics are no Exception
        return Failed


@given(st.text(max_size=80) | st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join))
def test_any_text_is_a_rule_or_is_told_what_is_wrong_with_it(text: str) -> None:
    found = problem(text)
    assert "\n" not in found
    if not found:
        made = program(text)
        assert made.slots <= 2


@given(conditions())
@settings(max_examples=200)
def test_what_is_accepted_means_what_it_means_in_cel(expression: str) -> None:
    assume(len(expression) <= MAX_EXPRESSION_LENGTH)
    assert problem(expression) == ""
    assert ours(expression) == theirs(expression)


@given(conditions(), st.integers(1, 3000), st.integers(0, 200))
def test_every_run_ends_within_its_steps(expression: str, characters: int, elements: int) -> None:
    assume(len(expression) <= MAX_EXPRESSION_LENGTH)
    large = VALUES | {
        "request.path": "/" + "a" * min(characters, 2047),
        "request.scopes": ("x" * 30,) * min(elements, 64),
        "grant.evidence": VALUES["grant.evidence"] * min(elements, 64),
    }
    made = program(expression)
    run = Run(large.get, made.slots)
    try:
        assert made.run(run) in (True, False)
    except Failed:
        pass
    except TooLong:
        assert run.left < 0
    else:
        assert 0 <= run.left <= MAX_STEPS
    assert MAX_STEPS <= MAX_STEPS_TOGETHER


@given(_flips, st.lists(conditions(1) | st.just("true"), min_size=1, max_size=3), st.booleans())
def test_no_rule_makes_a_token_active_that_is_not(names: list[str], expressions: list[str], explain: bool) -> None:
    case = active()
    for name in names:
        case = FLIPS[name][1](case)
    rules = tuple(AllowRule(name=f"r{number}", expression=one) for number, one in enumerate(expressions))
    audience = active().audience
    assert audience is not None
    audience = msgspec.structs.replace(audience, spec=msgspec.structs.replace(audience.spec, allow=rules))
    decision = case.decide()
    assert weigh(decision, audience, compiled(rules), read, explain=explain) == decision
    assert not decision.active


@given(st.lists(conditions(2), min_size=1, max_size=4))
def test_one_true_rule_admits_and_what_is_told_agrees_with_it(expressions: list[str]) -> None:
    assume(all(len(one) <= MAX_EXPRESSION_LENGTH for one in expressions))
    rules = compiled(AllowRule(name=f"r{number}", expression=one) for number, one in enumerate(expressions))
    admitted_by = admitting(rules, read)
    told = outcomes(rules, read)
    assert [one.admits for one in told] == [ours(one) is True for one in expressions]
    assert admitted_by == next((one.rule for one in told if one.admits), None)
    assert all(one.admits or one.found for one in told)


@given(conditions())
def test_an_unknown_value_never_makes_a_rule_true_that_no_value_would(expression: str) -> None:
    """Unless the rule asks with `has`: what holds without a value holds with any."""
    assume(len(expression) <= MAX_EXPRESSION_LENGTH and "has(" not in expression)
    if ours(expression) is not True:
        return
    made = program(expression)
    for value in ("", "GET", "10.0.0.1"):
        known = VALUES | {"request.sourceAddress": value, "grant.profile": value}
        assert made.run(Run(known.get, made.slots)) is True
