"""Whatever bytes come and whatever a policy's author writes: an answer, no error, and nothing that nobody signed."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.signatures.conditions.apart import MAX_FOUND_LENGTH, evaluate_apart
from countersign.signatures.errors import SignatureError
from countersign.signatures.examine import Candidate, Examined, Question, examine, examine_packed, pack, unpack
from countersign.signatures.formats.statements import PAYLOAD_TYPE, Said, read_statement
from countersign.trust.evidence.conditions import (
    COMPREHENSIONS,
    FUNCTIONS,
    MAX_EXPRESSION_LENGTH,
    VARIABLES,
    problem,
)
from countersign.trust.expressions.shown import printable, shown
from countersign.trust.expressions.words import tokens_of
from tests.fakes.signing import bundle, classic_payload, make_key, pem_of, sign, statement

DIGEST = "sha256:" + "ab" * 32
KIND = "https://example.com/p"
KEY = make_key()
GOOD = statement(DIGEST, KIND, predicate={"a": [1, {"b": "c"}]})
FORMS = st.sampled_from(["bundle", "dsse", "simple-signing"])
QUESTION = Question(digest=DIGEST, keys=(pem_of(KEY),), predicates={KIND: ()})


def envelope(payload: bytes) -> bytes:
    data: bytes = json.dumps(json.loads(bundle(KEY, payload))["dsseEnvelope"]).encode()
    return data


GOOD_BY_FORM = {
    "bundle": bundle(KEY, GOOD),
    "dsse": envelope(GOOD),
    "simple-signing": classic_payload(DIGEST),
}
ANNOTATIONS = {"dev.cosignproject.cosign/signature": sign(KEY, classic_payload(DIGEST))}
EXPECTED = {
    form: examine(Candidate(form=form, data=data, annotations=ANNOTATIONS), QUESTION)  # type: ignore[arg-type]
    for form, data in GOOD_BY_FORM.items()
}

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
_marks = st.sampled_from("'\"\\()[]{}.,&|!-?:=/`ä\u202e\0 \n")
_words = _marks | st.sampled_from(
    [*VARIABLES, *FUNCTIONS, *COMPREHENSIONS, "x", "in", "true", '"""', "&&", "==", "r'", "1.5e3"]
)
_expressions = st.text(max_size=60) | st.lists(_words, max_size=40).map("".join) | st.lists(_words).map(" ".join)


def nothing(found: Examined) -> bool:
    return found.vouches == () and found.attestations == () and found.problem != ""


@given(FORMS, st.binary(max_size=400), st.dictionaries(st.text(max_size=30), st.text(max_size=60), max_size=4))
def test_arbitrary_bytes_come_to_nothing(form: Any, data: bytes, annotations: dict[str, str]) -> None:
    assert nothing(examine(Candidate(form=form, data=data, annotations=annotations), QUESTION))


@given(FORMS, _json)
def test_arbitrary_json_comes_to_nothing(form: Any, value: Any) -> None:
    data = json.dumps(value).encode()
    assert nothing(examine(Candidate(form=form, data=data, annotations=ANNOTATIONS), QUESTION))


@given(FORMS.filter(lambda form: form != "simple-signing"), _json | st.binary(max_size=100))
def test_arbitrary_payloads_that_the_key_signed_come_to_nothing(form: Any, value: Any) -> None:
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    data = bundle(KEY, payload) if form == "bundle" else envelope(payload)
    assert nothing(examine(Candidate(form=form, data=data), QUESTION))


@given(FORMS, st.data())
def test_changed_bytes_come_to_the_same_or_to_nothing(form: Any, data: st.DataObject) -> None:
    good = GOOD_BY_FORM[form]
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start, min(len(good), start + 20)))
    changed = good[:start] + data.draw(st.binary(max_size=20)) + good[end:]
    found = examine(Candidate(form=form, data=changed, annotations=ANNOTATIONS), QUESTION)
    assert found == EXPECTED[form] or nothing(found)


_members = st.dictionaries(st.sampled_from(["_type", "subject", "predicateType", "predicate"]), _json)


# What Python writes for numbers that JSON has not is no statement.
@given(_members.filter(lambda members: not {"Infinity", "NaN"} & set(re.findall("Infinity|NaN", json.dumps(members)))))
def test_a_signed_statement_with_arbitrary_members_is_about_the_image_only_if_it_says_so(members: Any) -> None:
    payload = statement(DIGEST, KIND, **members)
    found = examine(Candidate(form="dsse", data=envelope(payload)), QUESTION)
    wrong = {"_type", "subject", "predicateType"} & {
        name for name in members if members[name] != json.loads(GOOD)[name]
    }
    assert nothing(found) if wrong else len(found.attestations) == 1


@given(st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()), st.text(max_size=40))
def test_a_statement_is_read_or_refused(payload: bytes, kind: str) -> None:
    for payload_type in (kind, PAYLOAD_TYPE):
        with pytest.raises(SignatureError):
            read_statement(payload_type, payload)


@given(FORMS, st.binary(max_size=200), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_what_goes_to_a_worker_and_back_is_what_it_was(form: Any, data: bytes, annotations: dict[str, str]) -> None:
    candidate = Candidate(form=form, data=data, annotations=annotations)
    assert unpack(examine_packed(*pack(candidate, QUESTION))) == examine(candidate, QUESTION)


@given(_expressions)
def test_every_expression_is_taken_or_refused_with_a_reason(expression: str) -> None:
    found = problem(expression)
    assert isinstance(found, str)
    if not found:
        tokens = tokens_of(expression)
        assert isinstance(tokens, list)
        assert len(expression) <= MAX_EXPRESSION_LENGTH
        assert "".join(token.text for token in tokens if token.kind != "string").isascii()
        # Nothing is lost between the words but white space.
        rest = expression
        for token in tokens:
            before, _, rest = rest.partition(token.text)
            assert before.strip(" \t\r\n\f") == ""
        assert rest.strip(" \t\r\n\f") == ""


@given(st.integers(0, 6), st.sampled_from(COMPREHENSIONS), st.sampled_from(["", " ", "\n", "\t \r\n"]))
def test_comprehensions_nest_as_deep_as_may_be_and_no_deeper(depth: int, macro: str, space: str) -> None:
    expression = "true"
    for number in range(depth):
        expression = f"predicate{space}.{space}l{space}.{space}{macro}{space}({space}x{number},{space}{expression})"
    assert (problem(expression) == "") == (depth <= 2)


@given(_json, st.integers(10, 100))
def test_every_value_can_be_shown_and_seen(value: Any, limit: int) -> None:
    text = shown(value, limit)
    assert len(text) <= max(limit, 40)
    assert text.isprintable()


@given(st.text())
def test_what_cannot_be_seen_is_escaped_and_the_rest_left_alone(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


@given(st.binary(max_size=60))
def test_base64_that_stands_for_the_same_bytes_in_two_ways_is_signed_once(noise: bytes) -> None:
    data = json.loads(envelope(GOOD))
    data["payload"] = base64.b64encode(GOOD + noise).decode()
    found = examine(Candidate(form="dsse", data=json.dumps(data).encode()), QUESTION)
    assert nothing(found) if noise else found == EXPECTED["dsse"]


_literals = st.sampled_from(
    ["true", "null", "1", "7u", "-2.5", "1e400", "'t'", r"r'\d'", '"""q"""', "b'x'", "[]", "{}"]
)
_fields = st.sampled_from(
    ["predicate", "predicate.a", "predicate.a[1].b", "predicate['a']", "predicate.no", "subject.name"]
)
_atoms = _literals | _fields | st.sampled_from(["statement", "x", "y"])


def _composed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["&&", "||", "==", "!=", "<", ">=", "+", "-", "*", "/", "%", "in"])
    return (
        st.tuples(inner, operators, inner).map(" ".join)
        | st.tuples(inner, inner, inner).map("({0[0]} ? {0[1]} : {0[2]})".format)
        | st.tuples(inner, st.sampled_from(COMPREHENSIONS), st.sampled_from("xy"), inner).map(
            "{0[0]}.{0[1]}({0[2]}, {0[3]})".format
        )
        | st.tuples(st.sampled_from([*FUNCTIONS, "!", "-", ""]), inner).map("{0[0]}({0[1]})".format)
        | st.tuples(inner, st.sampled_from(FUNCTIONS), inner).map("{0[0]}.{0[1]}({0[2]})".format)
        | st.tuples(inner, inner).map("[{0[0]}, {0[1]}]".format)
        | st.tuples(inner, inner).map("{{{0[0]}: {0[1]}}}".format)
    )


@given(st.recursive(_atoms, _composed, max_leaves=12))
def test_every_condition_comes_to_an_answer_with_a_reason_that_can_be_seen(condition: str) -> None:
    """Whatever it makes of it, the library takes no process along but its own fork."""
    ((holds, found),) = evaluate_apart([condition], Said(GOOD, "registry.example.com/app", DIGEST))
    assert holds == (found == "")
    assert len(found) <= MAX_FOUND_LENGTH
    assert found.isprintable()
