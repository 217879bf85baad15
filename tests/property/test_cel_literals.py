"""Text in the matchConditions of a webhook means itself, and nothing else."""

from __future__ import annotations

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from countersign.controller.webhooks.cel import any_of, asks_for, string_literal

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
ATTACK = 'x"] || true || a in ["y'


@given(TEXT)
@example(ATTACK)
@example("\\")
@example("'\"\n\r\t\0\u2028\U0001f600")
def test_a_literal_reads_back_as_the_text(text: str) -> None:
    # CEL and Python agree on these escapes: \uXXXX and \UXXXXXXXX (cel-spec, "String and Bytes Values").
    assert ast.literal_eval(string_literal(text)) == text


@given(TEXT)
@example(ATTACK)
def test_a_literal_is_one_token_of_plain_ascii(text: str) -> None:
    literal = string_literal(text)
    assert literal.isascii()
    assert literal.isprintable()
    assert literal[1:-1].count('"') == 0
    assert literal[0] == literal[-1] == '"'


@given(st.lists(TEXT, max_size=5))
@example([ATTACK, "ledger.example.com"])
def test_a_list_holds_exactly_the_given_texts(texts: list[str]) -> None:
    assert ast.literal_eval(any_of(texts)) == texts


@given(st.characters(categories=["Cs"]))
def test_a_lone_surrogate_is_refused(surrogate: str) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        string_literal(surrogate)


def test_an_attacking_audience_stays_inside_its_quotes() -> None:
    expression = asks_for([ATTACK])
    assert "|| true" in expression
    assert expression.count('"') == 2
