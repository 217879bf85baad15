"""Conditions on attestations: how one is named, and which expressions may stand in a policy.

An expression is CEL (github.com/google/cel-spec, doc/langdef.md). What is checked here needs no CEL library: its
length, how deep brackets and comprehensions nest, and that every variable and function is one that there is. So a slip
of the pen is told when the policy is applied. The library has the last word about the syntax; a condition that it
cannot compile holds for no attestation.
"""

import hashlib
from typing import Final, NamedTuple

from countersign.trust.expressions.words import MAX_BRACKET_DEPTH, MAX_NEGATIONS, Token, hidden_character, tokens_of

VARIABLES: Final = ("statement", "predicate", "subject")
COMPREHENSIONS: Final = ("all", "exists", "exists_one", "filter", "map")
FUNCTIONS: Final = (
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "uint",
)
"""The standard functions of CEL that conditions may call; none of the extensions that Kubernetes adds."""

MAX_EXPRESSION_LENGTH: Final = 1024
"""In characters; the API allows as many (`api.image_rule.Validation`)."""
MAX_NESTED_COMPREHENSIONS: Final = 2
"""Each level multiplies the work by the length of a list: three over an SBOM's packages would take hours."""
MAX_COMPREHENSIONS: Final = 8

_WORDS: Final = frozenset(("true", "false", "null", "in"))


class _Bracket(NamedTuple):
    opens: str
    comprehension: bool


def condition_name(predicate_type: str, expression: str) -> str:
    """`sha256:<hex>` over both: the name of a `facts.Claim`. A zero byte, which neither holds, stands between."""
    return "sha256:" + hashlib.sha256(f"{predicate_type}\0{expression}".encode("utf-8", "surrogatepass")).hexdigest()


def problem(expression: str) -> str:
    """Why the expression may not stand in a policy, as a phrase that says what to mend; empty if it may.

    Defined for any text; takes time linear in its length.
    """
    if not expression.strip():
        return "the expression is empty"
    if len(expression) > MAX_EXPRESSION_LENGTH:
        return f"the expression is longer than {MAX_EXPRESSION_LENGTH} characters: make two validations of it"
    hidden = hidden_character(expression)
    if hidden:
        return hidden
    tokens = tokens_of(expression)
    if isinstance(tokens, str):
        return tokens
    return _problem_of_brackets(tokens) or _problem_of_names(tokens)


def members_named(expression: str, variable: str) -> set[str] | None:
    """The members of a variable that the expression names; None if it may look at others, too."""
    tokens = tokens_of(expression)
    if isinstance(tokens, str) or variable in _variables_of_comprehensions(tokens):
        return None
    named: set[str] = set()
    for index, (kind, text) in enumerate(tokens):
        if kind != "name" or text != variable or (index > 0 and tokens[index - 1].text == "."):
            continue
        after = [token.text for token in tokens[index + 1 : index + 4]]
        if after[:1] != ["."] or after[2:3] == ["("] or len(after) < 2:
            return None
        named.add(after[1])
    return named


def _problem_of_brackets(tokens: list[Token]) -> str:
    closing = {")": "(", "]": "[", "}": "{"}
    open_now: list[_Bracket] = []
    comprehensions = negations = 0
    for index, (kind, text) in enumerate(tokens):
        negations = negations + 1 if kind == "mark" and text in "!-" else 0
        if negations > MAX_NEGATIONS:
            return f"more than {MAX_NEGATIONS} of `!` and `-` in a row: an even number of them says nothing"
        if kind != "mark":
            continue
        if text in "([{":
            comprehension = text == "(" and _calls_comprehension(tokens, index)
            open_now.append(_Bracket(text, comprehension))
            comprehensions += comprehension
            if sum(one.comprehension for one in open_now) > MAX_NESTED_COMPREHENSIONS:
                return (
                    f"more than {MAX_NESTED_COMPREHENSIONS} comprehensions ({', '.join(COMPREHENSIONS)}) are nested: "
                    "each multiplies the work by the length of a list"
                )
            if comprehensions > MAX_COMPREHENSIONS:
                return f"there are more than {MAX_COMPREHENSIONS} comprehensions: make two validations of it"
            if len(open_now) > MAX_BRACKET_DEPTH:
                return f"brackets are nested more than {MAX_BRACKET_DEPTH} deep"
        elif text in closing and (not open_now or open_now.pop().opens != closing[text]):
            return f"a {text!r} closes nothing"
    return f"a {open_now[-1].opens!r} is never closed" if open_now else ""


def _calls_comprehension(tokens: list[Token], bracket: int) -> bool:
    return (
        bracket >= 2
        and tokens[bracket - 1].kind == "name"
        and tokens[bracket - 1].text in COMPREHENSIONS
        and tokens[bracket - 2].text == "."
    )


def _problem_of_names(tokens: list[Token]) -> str:
    known = {*VARIABLES, *_variables_of_comprehensions(tokens)}
    for index, (kind, text) in enumerate(tokens):
        if kind != "name":
            continue
        member = index > 0 and tokens[index - 1].text == "."
        called = index + 1 < len(tokens) and tokens[index + 1].text == "("
        if called and text not in _WORDS:
            if text not in FUNCTIONS and not (member and text in COMPREHENSIONS):
                return f"there is no function {text[:80]!r}: there are {', '.join((*FUNCTIONS, *COMPREHENSIONS))}"
        elif not member and text not in known and text not in _WORDS:
            return f"there is no variable {text[:80]!r}: there are {', '.join(VARIABLES)}"
    return ""


def _variables_of_comprehensions(tokens: list[Token]) -> set[str]:
    return {
        tokens[index + 1].text
        for index, token in enumerate(tokens)
        if token.text == "("
        and _calls_comprehension(tokens, index)
        and index + 2 < len(tokens)
        and tokens[index + 1].kind == "name"
        and tokens[index + 2].text == ","
    }
