"""Expressions of policies: RE2, the whole value, and never longer than linear time."""

from __future__ import annotations

import pytest

from countersign.trust.policies.patterns import MAX_VALUE_LENGTH, Pattern


def test_the_whole_value_must_match() -> None:
    pattern = Pattern(r"https://github\.com/acme/.*")
    assert pattern.matches("https://github.com/acme/api")
    assert not pattern.matches("http://evil.example/?https://github.com/acme/api")
    assert not Pattern("acme").matches("acme2")


def test_each_alternative_is_anchored_at_both_ends() -> None:
    pattern = Pattern("acme|other")
    assert pattern.matches("other")
    assert not pattern.matches("acme-evil")
    assert not pattern.matches("evil-other")


def test_a_line_feed_at_the_end_is_part_of_the_value() -> None:
    assert not Pattern("acme$").matches("acme\n")
    assert not Pattern("acme.*").matches("acme\nevil")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("(", "missing )"),
        (r"(?<=a)b", "(?<"),
        (r"(a)\1", r"\1"),
        (r"(\pL{1,900}x?)+", "too large"),
        ("a" * 513, "512"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_cannot_be_compiled_says_why_and_matches_nothing(text: str, part: str) -> None:
    pattern = Pattern(text)
    assert part in pattern.problem
    assert not pattern.matches("")
    assert not pattern.matches("ab")
    assert not pattern.matches(text)


def test_an_expression_that_would_make_a_backtracking_matcher_run_for_years_answers() -> None:
    assert not Pattern("(a+)+b").matches("a" * MAX_VALUE_LENGTH)
    assert not Pattern("(a|aa)+$x").matches("a" * MAX_VALUE_LENGTH)


def test_a_value_longer_than_any_certificate_holds_does_not_match() -> None:
    assert Pattern("a*").matches("a" * MAX_VALUE_LENGTH)
    assert not Pattern("a*").matches("a" * (MAX_VALUE_LENGTH + 1))


def test_a_value_that_is_no_text_does_not_match() -> None:
    assert not Pattern(".*").matches("\ud800")
