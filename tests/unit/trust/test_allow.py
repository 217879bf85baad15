"""What the rules of an audience may say, and what they come to."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from countersign.access.rules import READ
from countersign.api.audience import AllowRule
from countersign.trust.allow.functions import METHODS
from countersign.trust.allow.program import operands, problem, program
from countersign.trust.allow.rules import MAX_STEPS_TOGETHER, admitting, compiled, outcomes
from countersign.trust.allow.steps import MAX_STEPS, Failed, Run, TooLong
from countersign.trust.allow.variables import MAX_EVIDENCE, VARIABLES, paths
from countersign.trust.evidence.conditions import FUNCTIONS
from tests.allow_strategies import VALUES

KNOWN: dict[str, Any] = VALUES | {"request.sourceAddress": "10.1.2.3"}


def come_to(expression: str, **values: Any) -> Any:
    made = program(expression)
    try:
        return made.run(Run((KNOWN | values).get, made.slots))
    except Failed as error:
        return str(error)


@pytest.mark.parametrize(
    ("expression", "phrase"),
    [
        (" ", "empty"),
        ("true" + " " * 1024, "longer than 1024"),
        ("request.path == 'a\u202eb'", "U+202E"),
        ("request.path", "must be of type bool"),
        ("request", "must be of type bool"),
        ("request.scopes", "must be of type bool"),
        ("path == '/'", "no variable 'path'"),
        ("grant.evidnce.size() > 0", "no member 'evidnce': there are owner"),
        ("grant.evidence.exists(e, e.subj == 'x')", "no member 'subj'"),
        ("grant.controller.uid == ''", "grant.controller has no member 'uid'"),
        ("pod.labels['team'] == 'x'", "the pod's author writes them"),
        ("pod.annotations.x == 'x'", "the pod's author writes them"),
        ("request.method == 3", "never equal"),
        ("request.scopes == ['a', 1]", "one type"),
        ("token.ageSeconds == true", "never equal"),
        ("grant.controller == grant.controller", "never equal"),
        ("grant.evidence == grant.evidence", "never equal"),
        ("request.time < 5", "compares"),
        ("true < false", "compares"),
        ("1 in request.scopes", "looks for int"),
        ("'a' in 'abc'", "looks for string in a list"),
        ("request.path && true", "what `&&` joins"),
        ("!request.path", "what `!` denies"),
        ("-request.path == 1", "what `-` negates"),
        ("true ? 1 : 2", "must be of type bool"),
        ("(true ? 1 : 'a') == 1", "gives one type"),
        ("'a' + 'b' == 'ab'", "what `+` takes"),
        ("2 * 3 == 6", "rules compare"),
        ("1 < 2 < 3", "follow one another"),
        ("1.5 > 1", "whole numbers"),
        ("1u == 1", "whole numbers"),
        ("9223372036854775808 > 0", "64 bits"),
        ("b'a' == b'a'", "no bytes"),
        ("{'a': 1}.a == 1", "no maps"),
        (".request.path == ''", "qualified names"),
        ("request.path == null", "has(...)"),
        ("'\\z' == ''", "no escape that CEL knows"),
        ("'\\ud800' == ''", "no escape that CEL knows"),
        ("has(request)", "has takes one member"),
        ("has(request.relyingParty)", "always there"),
        ("has(request.path, 1)", "has takes one member"),
        ("size(1) == 1", "size takes a list or a text"),
        ("int('1') == 1", "no function 'int'"),
        ("request.path.lowerAscii() == ''", "of its methods there are startsWith"),
        ("request.path.startsWith('a', 'b')", "takes 1 argument"),
        ("request.path.startsWith(1)", "what startsWith takes"),
        ("request.path.matches(request.method)", "written out"),
        ("request.path.matches('(')", "missing"),
        (r"request.path.matches('\\p{L}')", "too large"),
        ("request.path.matches('(((a{1,8}){1,8}){1,3}){1,2}')", "too large"),
        ("request.time < timestamp('tomorrow')", "write it as timestamp('2026"),
        ("request.time < timestamp(request.path)", "written out"),
        ("cidr('10.0.0.1/8').containsIP(request.sourceAddress)", "host bits"),
        ("cidr(request.path).containsIP(request.sourceAddress)", "written out"),
        ("request.scopes.all(s)", "takes a name"),
        ("request.scopes.all('s', true)", "takes a name"),
        ("request.scopes.all(request, true)", "has a meaning already"),
        ("request.scopes.all(s, request.scopes.all(s, true))", "has a meaning already"),
        ("request.path.all(c, true)", "goes through a list"),
        ("request.scopes.map(s, request) == []", "takes texts, numbers"),
        ("request.scopes.all(a, request.scopes.all(b, request.scopes.all(c, true)))", "nested"),
        ("request.scopes[0][0] == 'a'", "of a record, write"),
        ("request['path'] == 'a'", "of a record, write"),
        ("request.scopes['a'] == 'a'", "the place in a list"),
        ("true true", "found `true` after `true`"),
        ("(true", "where `)` is missing"),
        ("request.scopes.all(s, true", "where `,` is missing"),
        ("request.", "the name of a member"),
        ("true ?", "it ends after `?`"),
        ("[1,,2] == []", "a value"),
        ("if == 1", "no value in a rule"),
        ("//x\ntrue", "comment"),
        ("'abc", "has no end"),
        ("true; false", "no meaning"),
        ("(" * 40 + "true" + ")" * 40, "nested more than"),
        ("!" * 20 + "true", "one of them will do"),
        ("true?true:" * 100 + "true", "nested more than"),
        ("1" + "-1" * 100 + " < 0", "at most"),
        ("a" + ".a" * 100 + " == 1", "follow one another"),
        ("(" * 12 + "1" + "-1-1-1-1-1-1-1)" * 12 + " < 0", "nested more than 64 deep"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_what_to_mend(expression: str, phrase: str) -> None:
    assert phrase in problem(expression)
    assert len(problem(expression)) < 400


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("true", True),
        ("request.method == 'GET' && token.ageSeconds <= 60", True),
        ("request.path.startsWith('/v1/') || request.path == '/'", True),
        ("request.path.matches('^/v[0-9]+/[a-z]+$')", True),
        ("request.path.matches('v2')", False),
        ("cidr('10.0.0.0/8').containsIP(request.sourceAddress)", True),
        ("cidr('2001:db8::/32').containsIP(request.sourceAddress)", False),
        ("cidr('10.0.0.0/8').containsIP(request.path)", "what containsIP takes is no IP address"),
        ("request.time >= timestamp('2026-03-01T13:30:00+01:00')", True),
        ("request.time.getDayOfWeek() == 0 && request.time.getMonth() == 2 && request.time.getDate() == 1", True),
        ("request.time.getDayOfYear() == 59 && request.time.getDayOfMonth() == 0", True),
        ("token.issuedAt.getFullYear() == 2026 && token.issuedAt.getMinutes() == 59", True),
        ("token.issuedAt.getSeconds() == 58", True),
        ("request.scopes.all(s, s in ['read', 'write'])", True),
        ("request.scopes.exists_one(s, s == 'read')", True),
        ("request.scopes.filter(s, s != 'read') == ['write']", True),
        ("request.scopes.map(s, size(s)) == [4, 5]", True),
        ("request.scopes[1] == 'write'", True),
        ("request.scopes[2] == 'write'", "there is no element 2 in a list of 2"),
        ("[] == request.scopes", False),
        ("request.scopes != ['read']", True),
        ("grant.evidence.exists(e, e.authority == 'release')", True),
        ("grant.evidence.exists(e, e.rule == 'release')", "an element has no rule"),
        ("grant.evidence.exists(e, has(e.rule) && e.rule == '')", False),
        ("grant.evidence.all(e, e.digestListed || e.authority != '')", True),
        ("(token.ageSeconds < 5 ? 'a' : 'b') == 'b'", True),
        ("0x3C == token.ageSeconds", True),
        ("-9223372036854775808 - 1 < 0", "a number does not fit 64 bits"),
        ("token.ageSeconds + 540 == token.lifetimeSeconds && -token.ageSeconds == -60", True),
        (r"'\x47\105\u0054' == request.method && r'\n' == '\\n' && '''a'b''' == 'a\'b'", True),
        ("grant.profile == 'Agent'", "grant.profile is not known"),
        ("!(grant.profile == 'Agent')", "grant.profile is not known"),
        ("has(grant.profile)", False),
        ("!has(grant.profile) || grant.profile == 'Agent'", True),
        ("grant.profile == 'Agent' || request.method == 'GET'", True),
        ("grant.profile == 'Agent' && request.method == 'POST'", False),
        ("[grant.profile] == []", "grant.profile is not known"),
    ],
)  # fmt: skip
def test_what_a_rule_comes_to(expression: str, value: object) -> None:
    assert problem(expression) == ""
    assert come_to(expression) == value


def test_every_variable_is_read_and_nothing_else() -> None:
    assert [path for path, _ in paths()] == list(READ)
    assert {path.partition(".")[0] for path in READ} == set(VARIABLES)


def test_nothing_that_a_pods_author_writes_is_a_variable() -> None:
    written = ("label", "annotation", "env", "ownerref", "command", "args")
    assert not [path for path, _ in paths() if any(word in path.lower() for word in written)]


LARGE = KNOWN | {
    "request.path": "/" + "a" * 2046,
    "request.scopes": tuple(f"{number:02d}" + "x" * 28 for number in range(64)),
    "grant.evidence": ({"authority": "", "subject": "s" * 1024},) * MAX_EVIDENCE,
}


def filled(head: str, part: str, tail: str, between: str = "||") -> str:
    """As long a rule as there may be."""
    return head + between.join([part] * ((1024 - len(head) - len(tail)) // (len(part) + len(between)))) + tail


FOR_EVER = {
    "a list through a list": "grant.evidence.all(e, request.scopes.all(s, s != e.subject))",
    "a long body": filled("grant.evidence.all(e, ", "e.subject != ''", ")", "&&"),
    "many lists": filled("", "request.scopes.exists(s, s == '')", ""),
    "lists of lists": filled("", "request.scopes.map(s, s).map(s, s) == []", ""),
    "a pattern for each": filled("grant.evidence.exists(e, ", "e.subject.matches('a$')", ")"),
    "a pattern that is slow": "request.path.matches('(a?){60}b')",
    "addresses": filled("grant.evidence.exists(e, ", "cidr('8000::/1').containsIP('::1')", ")"),
    "long texts": filled("grant.evidence.exists(e, ", "request.path.contains(e.subject)", ")"),
    "what is not known": filled("request.scopes.all(s, ", "s == grant.profile", ")"),
    "one list in each": filled("grant.evidence.exists(e, ", "'' in request.scopes", ")"),
}


@pytest.mark.parametrize("name", FOR_EVER)
def test_a_rule_that_would_run_for_long_is_stopped_and_does_not_admit(name: str) -> None:
    expression = FOR_EVER[name]
    assert problem(expression) == ""
    made = program(expression)
    with pytest.raises(TooLong):
        made.run(Run(LARGE.get, made.slots))
    rules = compiled([AllowRule(name="slow", expression=expression)])
    assert admitting(rules, LARGE.get) is None
    [told] = outcomes(rules, LARGE.get)
    assert told.found == "it takes too many steps to evaluate"


def test_no_operator_gets_over_too_many_steps() -> None:
    slow = FOR_EVER["a list through a list"]
    for expression in (
        f"({slow}) || true",
        f"!({slow})",
        f"({slow}) && false",
        f"request.scopes.exists(x, {slow} || x != '')",
    ):
        if problem(expression):
            assert "nested" in problem(expression)
            continue
        made = program(expression)
        with pytest.raises(TooLong):
            made.run(Run(LARGE.get, made.slots))


def test_sixteen_rules_that_run_for_long_share_what_one_use_may_take() -> None:
    slow = [AllowRule(name=f"slow{number}", expression=FOR_EVER["many lists"]) for number in range(15)]
    cheap = AllowRule(name="cheap", expression="request.method == 'GET'")
    late = AllowRule(name="late", expression="request.scopes.exists(s, s != '')")
    assert admitting(compiled([*slow, cheap]), LARGE.get) == cheap
    assert admitting(compiled([*slow, late]), LARGE.get) is None
    assert admitting(compiled([late, *slow]), LARGE.get) == late
    assert MAX_STEPS_TOGETHER >= 4 * MAX_STEPS


def test_as_many_rules_as_there_may_be_hold_nobody_up_for_long() -> None:
    """A stop for what is grossly wrong, such as a step that is not counted; the figures are in docs/audiences.md."""
    rules = compiled(
        AllowRule(name=f"r{number}", expression=list(FOR_EVER.values())[number % len(FOR_EVER)]) for number in range(16)
    )
    started = time.process_time()
    assert admitting(rules, LARGE.get) is None
    assert time.process_time() - started < 0.5


def test_ordinary_rules_are_far_from_the_limit() -> None:
    evidence = VALUES["grant.evidence"] * (MAX_EVIDENCE // 2)
    made = program("grant.evidence.all(e, e.authority == 'release' && e.issuer == '' || e.digestListed)")
    run = Run((KNOWN | {"grant.evidence": evidence}).get, made.slots)
    assert made.run(run) is True


def test_any_rule_that_is_true_admits() -> None:
    texts = {"no": "false", "unknown": "grant.profile == 'Agent'", "yes": "true", "later": "true"}
    rules = [AllowRule(name=name, expression=expression) for name, expression in texts.items()]
    admitted_by = admitting(compiled(rules), KNOWN.get)
    assert admitted_by is not None
    assert admitted_by.name == "yes"
    assert admitting(compiled(rules[:2]), KNOWN.get) is None
    assert admitting(compiled([]), KNOWN.get) is None


def test_a_rule_that_meets_a_value_that_nobody_thought_of_does_not_admit() -> None:
    rules = compiled([AllowRule(name="odd", expression="request.path.startsWith('/')")])
    assert admitting(rules, {"request.path": 7}.get) is None
    [told] = outcomes(rules, {"request.path": 7}.get)
    assert told.found.startswith("it cannot be evaluated")


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("request.method == 'GET' && request.path == '/'", 'request.path = "/v1/accounts"'),
        ("request.method == 'POST' && request.path == '/'", 'request.method = "GET"'),
        ("request.method == 'POST' || token.ageSeconds > 60", 'request.method = "GET"; token.ageSeconds = 60'),
        ("grant.profile == 'Agent'", "grant.profile is not known"),
        ("has(grant.profile)", "grant.profile is not known"),
        ("request.scopes.all(s, s == 'read')", 'request.scopes = "read write"'),
        ("grant.evidence.all(e, e.digestListed)", "grant.evidence = a list of 2"),
        ("false", "it is false"),
    ],
)
def test_what_is_told_of_a_rule_is_what_decided(expression: str, found: str) -> None:
    [told] = outcomes(compiled([AllowRule(name="r", expression=expression)]), KNOWN.get)
    assert (told.admits, told.found) == (False, found)


def test_values_are_told_in_printable_and_bounded_text() -> None:
    rules = compiled([AllowRule(name="r", expression="request.path == '' && request.method == ''")])
    [told] = outcomes(rules, {"request.path": "/\u202e\n" + "x" * 4000}.get)
    assert told.found.isprintable()
    assert len(told.found) < 200


def test_rules_are_read_in_their_parts() -> None:
    assert [one.paths for one in operands("has(request.path) && (request.method == '' || pod.node == '')")] == [
        ("request.path",),
        ("request.method", "pod.node"),
    ]


def test_times_are_of_utc_and_methods_are_those_of_cel() -> None:
    names = {name for kind, name in METHODS if kind == "timestamp"}
    assert names < {one for one in FUNCTIONS if one.startswith("get")}
    saturday = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    assert come_to("request.time.getDayOfWeek() == 6 && request.time.getHours() == 23", **{"request.time": saturday})
