"""Conditions on attestations: what holds, what is found where one does not, and what none can do."""

import os
from pathlib import Path
from typing import Any

import pytest

from countersign.signatures.conditions.apart import evaluate_apart
from countersign.trust.evidence.conditions import members_named
from countersign.trust.expressions.shown import printable, shown
from tests.attestation_examples import said

PREDICATE: dict[str, Any] = {
    "buildType": "https://example.com/build",
    "builder": {"id": "https://github.com/acme/builder@refs/tags/v1"},
    "critical": 3,
    "score": 9.5,
    "big": 2**70,
    "huge": 10**400,
    "none": None,
    "odd-name": {"x": True},
    "packages": [
        {"name": "openssl", "license": "Apache-2.0"},
        {"name": "leftpad", "license": "WTFPL"},
        {"name": "bare"},
    ],
    "tricky": "ok\u202eevil\n\u0000'\"",
    "long": "x" * 500,
}
MUCH = {"padding": ["x"] * 10_000}
"""Too much for conditions to be evaluated without a fork."""


def evaluate(*conditions: str, predicate: dict[str, Any] = PREDICATE) -> list[tuple[bool, str]]:
    """In a fork and, if they are cheap, without one: it must make no difference."""
    outcomes = evaluate_apart(conditions, said(predicate))
    assert evaluate_apart(conditions, said(predicate, **MUCH)) == outcomes
    return outcomes


def found(condition: str) -> str:
    ((holds, phrase),) = evaluate(condition)
    assert not holds
    assert phrase
    return phrase


@pytest.mark.parametrize(
    "condition",
    [
        "true",
        "predicate.buildType == 'https://example.com/build'",
        "predicate.builder.id.startsWith('https://github.com/acme/') && !has(predicate.nothing)",
        "predicate.builder.id.matches('^https://github[.]com/acme/[a-z]+@refs/tags/v[0-9]+$')",
        "predicate.packages.exists(p, p.name == 'leftpad' && p.license == 'WTFPL')",
        "predicate.packages.all(p, !has(p.license) || p.license in ['Apache-2.0', 'WTFPL'])",
        "predicate.packages.filter(p, has(p.license)).map(p, p.name) == ['openssl', 'leftpad']",
        "predicate.critical < 4 && predicate.critical < 4.5 && predicate.score > 9 && predicate.none == null",
        "predicate.big > 1.0e20 && predicate.huge > 1.0e300",
        "predicate['odd-name'].x",
        "statement.predicateType == 't' && statement.predicate.critical == predicate.critical",
        "subject.name.endsWith('/app') && subject.digest.startsWith('sha256:')",
        "timestamp('2026-01-02T03:04:05Z') - timestamp('2026-01-01T03:04:05Z') == duration('24h')",
        "size(predicate.long) == 500 && predicate.packages.size() == 3",
    ],
)
def test_a_condition_that_is_true_holds(condition: str) -> None:
    assert evaluate(condition) == [(True, "")]


@pytest.mark.parametrize(
    ("condition", "forks"),
    [
        ("predicate.builder.id != 'git+https://example.com'", 0),
        ("predicate.packages.all(p, p.name != 'it matches all + exists + map + filter')", 0),
        ("predicate.packages.map(p, p.name) + ['x'] != []", 1),
        ("predicate.packages.all(p, p.name.matches('^[a-z]+$'))", 1),
    ],
)
def test_a_fork_is_spared_where_a_condition_cannot_take_long_whatever_its_strings_hold(
    monkeypatch: pytest.MonkeyPatch, condition: str, forks: int
) -> None:
    forked = []
    fork = os.fork

    def counted() -> int:
        forked.append(condition)
        return fork()

    monkeypatch.setattr(os, "fork", counted)
    assert evaluate_apart([condition], said(PREDICATE)) == [(True, "")]
    assert len(forked) == forks


@pytest.mark.parametrize(
    ("condition", "phrase"),
    [
        ("predicate.buildType == 'other'", 'predicate.buildType = "https://example.com/build"'),
        ("predicate.critical == 0", "predicate.critical = 3"),
        ("predicate.critical == 3 && predicate.score < 9.0", "predicate.score = 9.5"),
        ("(predicate.critical == 3 && (predicate.score < 9.0))", "predicate.score = 9.5"),
        ("predicate.critical == 0 || predicate.score < 9.0", "predicate.critical = 3; predicate.score = 9.5"),
        ("!predicate['odd-name'].x", "predicate[\"odd-name\"].x = true"),
        ("predicate.builder.id.startsWith('x')", 'predicate.builder.id = "https://github.com/acme/builder@refs/tags/v1"'),
        ("predicate.builder.version == 'x'", 'predicate.builder has no "version"'),
        ("predicate.builder.version.major == 'x'", 'predicate.builder has no "version"'),
        ("has(predicate.builder.version)", 'predicate.builder has no "version"'),
        ("predicate.packages[7].name == 'x'", "predicate.packages has no 7"),
        ("predicate.packages.exists(p, p.name == 'x')", "predicate.packages = a list of 3"),
        ("predicate.packages.size() == 4", "predicate.packages = a list of 3"),
        ("predicate.builder == 'x'", "predicate.builder = an object with 1 members"),
        ("predicate.none != null", "predicate.none = null"),
        ("predicate.critical > 'a'", "predicate.critical = 3"),
        ("subject.name == 'x'", 'subject.name = "registry.example.com/app"'),
        ("predicate.packages.all(p, p.license != 'WTFPL')", 'predicate.packages[1].license = "WTFPL"'),
        ("predicate.packages.all(p, p.name != 'x' && p.license != 'x')", 'predicate.packages[2] has no "license"'),
        ("true && predicate.packages.all(p, p.name.size() > 4)", 'predicate.packages[2].name = "bare"'),
        ("predicate.packages.all(p, p.name != subject.name && p.license != 'x')", "predicate.packages = a list of 3"),
        ("predicate.critical", "it is 3, neither true nor false"),
        ("predicate.buildType", 'it is "https://example.com/build", neither true nor false'),
        ("'true'", 'it is "true", neither true nor false'),
        ("1 == 2", "it is false"),
        ("1 / 0 == 1", "it cannot be evaluated: "),
        ("timestamp('yesterday') == timestamp('today')", "it cannot be evaluated: "),
        ("predicate.critical == ", "it is no CEL"),
        ("predicte.critical == 3", "no variable 'predicte'"),
        ("predicate.tricky == 'ok'", r'predicate.tricky = "ok\u202eevil\n\u0000'),
    ],
)  # fmt: skip
def test_one_that_does_not_hold_tells_what_was_found(condition: str, phrase: str) -> None:
    assert phrase in found(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "predicate.long == 'x'",
        "predicate.tricky == 'x'",
        "predicate.huge < 1.0",
        "predicate['" + "n" * 300 + "'] == 1",
        "predicate.packages.map(p, predicate.long)",
        "predicate.long",
        "predicate.long.matches('(a{1000}){1000}')",
    ],
)
def test_what_is_told_is_short_and_can_be_seen(condition: str) -> None:
    assert len(found(condition)) <= 160
    assert found(condition).isprintable()


def test_each_condition_is_judged_by_itself() -> None:
    outcomes = evaluate("predicate.critical == 3", "nonsense(", "predicate.nothing", "true", "predicate.critical == 4")
    assert [holds for holds, _ in outcomes] == [True, False, False, True, False]


def test_a_condition_that_takes_too_long_does_not_hold_and_the_others_are_judged_all_the_same() -> None:
    predicate = {"many": [{"name": f"package-{number}"} for number in range(20_000)]}
    outcomes = evaluate(
        "predicate.many.size() == 20000",
        "predicate.many.all(x, predicate.many.all(y, x.name == y.name || x.name != 'none'))",
        "predicate.many.exists(x, x.name == 'package-19999')",
        predicate=predicate,
    )
    assert [holds for holds, _ in outcomes] == [True, False, True]
    assert outcomes[1][1] == "it takes longer than 2 s to evaluate"


def test_a_regular_expression_takes_time_in_proportion_to_its_text() -> None:
    """`(a|aa)+$` and `(a*)*b` make a backtracking matcher try exponentially many ways."""
    predicate = {"text": "a" * 100_000}
    assert (
        evaluate(
            "!predicate.text.matches('^(a|aa)+c$')",
            "!predicate.text.matches('^(a*)*b$')",
            "predicate.text.matches('^(a?){50}a+$')",
            predicate=predicate,
        )
        == [(True, "")] * 3
    )


def test_a_third_nested_comprehension_is_not_even_tried() -> None:
    ((holds, why),) = evaluate("predicate.l.all(x, predicate.l.all(y, predicate.l.all(z, true)))")
    assert not holds
    assert "nested" in why


def test_a_deeply_nested_statement_is_not_handed_to_the_library() -> None:
    nested: dict[str, Any] = {}
    for _ in range(500):
        nested = {"a": nested}
    assert evaluate("has(predicate.a)", predicate=nested) == [(False, "the statement is nested more than 128 deep")]


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("predicate.a.b == predicate.c[0] && has(predicate.d.e)", {"a", "c", "d"}),
        ("predicate.l.all(x, x.predicate == predicate.m)", {"l", "m"}),
        ("statement.predicate.a == 1", set()),
        ("predicate == null", None),
        ("predicate['a'] == predicate.b", None),
        ("'a' in predicate && predicate.b", None),
        ("predicate.all(k, k != 'a')", None),
        ("predicate.size() == 1", None),
        ("[1].all(predicate, predicate.a)", None),
        ("predicate", None),
        ("predicate.", None),
    ],
)
def test_only_members_that_are_named_are_handed_over_where_no_others_can_matter(
    condition: str, named: set[str] | None
) -> None:
    assert members_named(condition, "predicate") == named


def children() -> set[str]:
    """The processes of this one, also those that ended and that nobody has asked about."""
    return {entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent(entry) == os.getpid()}


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_no_process_is_left_behind() -> None:
    before = children()
    evaluate("true", "predicate.nothing")
    assert children() == before


def test_a_condition_that_looks_alike_is_another_one() -> None:
    # Cyrillic letters; full-width quotes are no quotes.
    assert "no meaning" in evaluate("predicate.cr\u0456tical == 3")[0][1]
    assert evaluate("predicate.buildType == 'https://ex\u0430mple.com/build'")[0][0] is False
    assert "no meaning" in evaluate("predicate.buildType == \uff07x\uff07")[0][1]


def test_a_value_is_shown_in_so_many_characters() -> None:
    assert shown("x" * 100, 20) == '"' + "x" * 18 + "…"
    assert shown("a\u202eb") == '"a\\u202eb"'
    assert shown({"a": 1}) == "an object with 1 members"
    assert len(shown(10**300, 30)) == 30
    assert printable("a\x00\u200b") == "a\\u0000\\u200b"
