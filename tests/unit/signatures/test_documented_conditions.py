"""docs/attestations.md: its examples hold for what they are about, and its tables say what happens."""

import re
from typing import Any

import pytest

from countersign.signatures.conditions.apart import CONDITION_CPU_SECONDS, evaluate_apart
from countersign.signatures.examine import MAX_ATTESTATION_BYTES
from countersign.signatures.formats.statements import MAX_DEPTH, MAX_VALUES
from countersign.trust.evidence import conditions
from countersign.trust.evidence.conditions import COMPREHENSIONS, FUNCTIONS, MAX_EXPRESSION_LENGTH, VARIABLES
from countersign.trust.expressions.words import MAX_BRACKET_DEPTH
from tests.attestation_examples import BROKEN, PAGE, PREDICATES, examples, said

TEXT = PAGE.read_text()
FOUND: dict[str, Any] = {
    "buildType": "https://example.com/theirs",
    "builder": {"id": "x"},
    "packages": [{"licenseConcluded": "MIT"}] * 17 + [{"licenseConcluded": "AGPL-3.0-only"}],
    "scanner": {},
    "results": [1, 2, 3],
}


def holds(kind: str, predicate: Any) -> list[bool]:
    expressions = [one.expression for one in examples()[kind].validations]
    return [held for held, _ in evaluate_apart(expressions, said(predicate))]


def test_there_is_an_example_for_each_kind_that_is_tried() -> None:
    assert set(examples()) == set(PREDICATES) == set(BROKEN)


@pytest.mark.parametrize("kind", sorted(PREDICATES))
def test_an_example_holds_for_what_it_asks_and_not_for_less(kind: str) -> None:
    assert all(holds(kind, PREDICATES[kind]))
    assert holds(kind, BROKEN[kind]).count(False) == 1


@pytest.mark.parametrize(("condition", "phrase"), re.findall(r"^\| `(predicate.*?|has.*?)` \| `(.*?)` \|$", TEXT, re.M))
def test_what_a_developer_reads_is_what_the_table_says(condition: str, phrase: str) -> None:
    assert evaluate_apart([condition], said(FOUND)) == [(False, phrase)]


def test_the_limits_are_those_of_the_code() -> None:
    said = " ".join(TEXT.split())
    assert f"{MAX_ATTESTATION_BYTES // 1024**2} MiB, {MAX_VALUES:,} values in its statement, {MAX_DEPTH} levels" in said
    assert f"{CONDITION_CPU_SECONDS:g} s of CPU time" in said
    assert f"longer than {MAX_EXPRESSION_LENGTH:,} characters" in said
    assert f"more than {MAX_BRACKET_DEPTH} brackets" in said
    assert (conditions.MAX_NESTED_COMPREHENSIONS, conditions.MAX_COMPREHENSIONS) == (2, 8)


def test_every_function_and_variable_is_named() -> None:
    for name in (*VARIABLES, *COMPREHENSIONS, *(one for one in FUNCTIONS if not one.startswith("get"))):
        assert re.search(rf"`{name}[`(]", TEXT), name
