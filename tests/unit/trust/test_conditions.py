"""How conditions on attestations are named, and which expressions may stand in a policy."""

import pytest

from countersign.trust.evidence import conditions
from countersign.trust.evidence.conditions import condition_name, problem

SLSA = "https://slsa.dev/provenance/v1"

GOOD = [
    "true",
    "predicate.buildDefinition.buildType == 'https://actions.github.io/buildtypes/workflow/v1'",
    'predicate.runDetails.builder.id.startsWith("https://github.com/")',
    "has(predicate.scanner) && predicate.scanner.result.vulnerabilities.all(v, v.severity != 'CRITICAL')",
    "predicate.packages.exists(p, p.name == 'openssl' && p.checksums.exists(c, c.algorithm == 'SHA256'))",
    "statement.subject.map(s, s.name).filter(n, n.matches('^ghcr[.]io/')).size() > 0",
    "timestamp(predicate.metadata.scanFinishedOn) > timestamp('2026-01-01T00:00:00Z')",
    "predicate['a-b'][0] != null && 'x' in predicate",
    r"""predicate.s == 'it\'s (' || predicate.s == r'\(' || predicate.s == \"\"\"a"b\"\"\" """.replace('\\"', '"'),
    "size(predicate.l) < 0x1F && predicate.d >= 1.5e-3 && predicate.u == 7u",
    "predicate.a ? predicate.b : {'k': [1, 2]}.k[0] == 1",
    "predicate.all == 1 && predicate.map.filter == 2",
    "subject.name == 'ghcr.io/acme/app' && subject.digest.startsWith('sha256:')",
    "predicate.name == 'größe'",
]


@pytest.mark.parametrize("expression", GOOD)
def test_an_ordinary_condition_may_stand_in_a_policy(expression: str) -> None:
    assert problem(expression) == ""


BAD = [
    ("", "empty"),
    (" \n", "empty"),
    ("true || " * 200 + "true", "longer than 1024"),
    ("predicte.buildType == 'x'", "no variable 'predicte'"),
    ("object.x == 1", "no variable 'object'"),
    ("x.exists(x, y == 1)", "no variable"),
    ("predicate.s.lowerAscii() == 'x'", "no function 'lowerAscii'"),
    ("predicate.l.transformList(i, v, v)", "no function 'transformList'"),
    ("all(predicate.l, true)", "no function 'all'"),
    ("cel.bind(x, 1, x)", "no variable 'cel'"),
    ("predicate.a == 'x", "has no end"),
    ("predicate.a == 'x\n'", "has no end"),
    ("predicate.a == `x`", "has no meaning"),
    ("predicate.a; true", "has no meaning"),
    ("true // fine", "comment"),
    ("predicate.a == 'x\u202e'", "U+202E"),
    ("predicate.a == '\u200b'", "U+200B"),
    ("predicate.a == '\ud800'", "U+D800"),
    ("(predicate.a", "never closed"),
    ("predicate.a)", "closes nothing"),
    ("(predicate.a]", "closes nothing"),
    ("(" * 33 + "true" + ")" * 33, "more than 32 deep"),
    ("!" * 9 + "true", "more than 8"),
    ("- " * 9 + "1 < 0", "more than 8"),
    ("predicate.a.all(x, x.b.all(y, y.c.all(z, z)))", "nested"),
    ("predicate.a .\nall\t(x, x.b.exists(y, y.c. map (z, z) == []))", "nested"),
    ("predicate.a.map(x, [1].map(y, {'k': (predicate.a.filter(z, true))}))", "nested"),
    (" && ".join(["predicate.a.all(x, x)"] * 9), "more than 8 comprehensions"),
]


@pytest.mark.parametrize(("expression", "why"), BAD)
def test_what_may_not_stand_in_a_policy_is_told_with_its_reason(expression: str, why: str) -> None:
    assert why in problem(expression)


def test_a_bracket_or_a_comprehension_in_a_string_counts_for_nothing() -> None:
    assert problem("predicate.a == '((((' && predicate.b == \".all(x, .all(x, .all(x,\"") == ""
    assert problem("predicate.a.matches(r'(\\()')") == ""


def test_the_quote_of_a_raw_string_cannot_be_escaped() -> None:
    assert "no variable 'danger'" in problem(r"""predicate.a == r'\' + danger + '' """)
    assert problem(r"""predicate.a == '\' + danger + ' """) == ""


def test_a_condition_is_named_by_its_type_and_its_text() -> None:
    name = condition_name(SLSA, "true")
    assert name == condition_name(SLSA, "true")
    assert name.startswith("sha256:")
    assert len({name, condition_name(SLSA, "true "), condition_name(SLSA + "t", "rue")}) == 3


def test_as_many_characters_as_the_api_allows_may_stand_in_a_policy() -> None:
    expression = "predicate.a == '" + "x" * (conditions.MAX_EXPRESSION_LENGTH - 17) + "'"
    assert len(expression) == conditions.MAX_EXPRESSION_LENGTH
    assert problem(expression) == ""
