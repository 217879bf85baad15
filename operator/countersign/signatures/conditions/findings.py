"""What a condition came upon that does not hold: the part of it that decided, and the values there.

For a person to read, in an admission's denial: short, printable, and never more than what the statement's signer wrote.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from countersign.signatures.conditions.cel import compiled_part
from countersign.signatures.conditions.cel import context as context_of
from countersign.trust.evidence.conditions import VARIABLES
from countersign.trust.expressions.shown import cut, printable, shown
from countersign.trust.expressions.words import Token, tokens_of

MAX_PHRASE_LENGTH: Final = 120
MAX_ELEMENTS: Final = 1000
"""Of a list, that are looked through for the one that made an `all` false."""

_MAX_PATH_LENGTH: Final = 60
_MISSING: Final = object()

_Tokens = Sequence[Token]


def judged(condition: str, known: Any, variables: Callable[[], Mapping[str, object]]) -> tuple[bool, str]:
    """Whether it holds, and what was found if not. Never raises an Exception.

    `known` are the variables as the library has them; `variables` reads them for us, which is done only to explain.
    """
    value = _value(condition, known)
    if value is True:
        return True, ""
    try:
        return False, _found(condition, value, known, variables())
    except Exception:
        # The verdict stands; that it cannot be explained is no reason to lose it.
        return False, "it is false"


def _found(condition: str, value: object, known: Any, variables: Mapping[str, object]) -> str:
    if not isinstance(value, bool | Exception):
        return f"it is {shown(value)}, neither true nor false"
    tokens = tokens_of(condition)
    if isinstance(tokens, str):
        return tokens
    deciding = _deciding_operand(tokens, known)
    phrase = _failing_element(deciding, variables) or _values(deciding, dict(variables), {})
    if phrase:
        return phrase
    return f"it cannot be evaluated: {printable(str(value))[:100]}" if isinstance(value, Exception) else "it is false"


def _value(expression: str, known: Any) -> object:
    """The expression's value; an exception if there is none."""
    try:
        return compiled_part(expression).execute(known)
    except Exception as error:
        return error
    except BaseException as error:
        # The library's panics are no Exception (PyO3, PanicException).
        return RuntimeError(str(error))


def _deciding_operand(tokens: _Tokens, known: Any) -> _Tokens:
    """The first operand of the outermost `&&` that is not true; all of it if there is none."""
    tokens = _without_brackets(tokens)
    operands = _operands(tokens)
    if len(operands) < 2:
        return tokens
    for operand in operands:
        if _value(_text(operand), known) is not True:
            return _deciding_operand(operand, known)
    return tokens


def _without_brackets(tokens: _Tokens) -> _Tokens:
    while len(tokens) > 2 and tokens[0].text == "(" and _closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _closing(tokens: _Tokens, opening: int) -> int:
    depth = 0
    for index in range(opening, len(tokens)):
        if tokens[index].kind == "mark":
            depth += (tokens[index].text in "([{") - (tokens[index].text in ")]}")
        if depth == 0:
            return index
    return -1


def _operands(tokens: _Tokens) -> list[_Tokens]:
    operands: list[_Tokens] = []
    start = depth = 0
    for index, (kind, text) in enumerate(tokens):
        if kind != "mark":
            continue
        depth += (text in "([{") - (text in ")]}")
        if depth == 0 and text in ("||", "?"):
            return [tokens]
        if depth == 0 and text == "&&":
            operands.append(tokens[start:index])
            start = index + 1
    return [*operands, tokens[start:]]


def _text(tokens: _Tokens) -> str:
    return " ".join(token.text for token in tokens)


def _failing_element(tokens: _Tokens, variables: Mapping[str, object]) -> str:
    """For `LIST.all(x, CONDITION)` with a condition about x alone: the first element that fails, and its values."""
    path, after = _path(tokens, 0) if tokens and tokens[0].text in VARIABLES else ([], 0)
    rest = tokens[after:]
    shape = [token.text for token in rest[:3]] == [".", "all", "("] and len(rest) > 6 and rest[4].text == ","
    if not path or not shape or _closing(rest, 2) != len(rest) - 1:
        return ""
    variable, body = rest[3].text, rest[5:-1]
    if set(compiled_part(_text(body)).variables()) & set(VARIABLES):
        return ""
    elements = _follow(variables, path)[0]
    if not isinstance(elements, list):
        return ""
    for number, element in enumerate(elements[:MAX_ELEMENTS]):
        known = context_of({variable: element})
        if _value(_text(body), known) is not True:
            label = f"{_label(path)}[{number}]"
            return _values(_deciding_operand(body, known), {variable: element}, {variable: label}) or f"{label} fails"
    return ""


def _values(tokens: _Tokens, variables: Mapping[str, object], labels: Mapping[str, str]) -> str:
    """The values of the fields that are named, as far as they are there."""
    found: dict[str, None] = {}
    index = 0
    while index < len(tokens):
        after_dot = index > 0 and tokens[index - 1].text == "."
        if tokens[index].kind == "name" and tokens[index].text in variables and not after_dot:
            path, index = _path(tokens, index)
            found[_told(path, variables, labels)] = None
        else:
            index += 1
    phrase = ""
    for one in found:
        longer = f"{phrase}; {one}" if phrase else one
        if len(longer) > MAX_PHRASE_LENGTH and phrase:
            break
        phrase = longer
    return phrase


def _told(path: Sequence[str | int], variables: Mapping[str, object], labels: Mapping[str, str]) -> str:
    value, there = _follow(variables, path)
    label = labels.get(str(path[0]), str(path[0]))
    if value is _MISSING:
        parent = cut(_label([label, *path[1:there]]), _MAX_PATH_LENGTH)
        return f"{parent} has no {_step(path[there])[:40]}"
    name = cut(_label([label, *path[1:]]), _MAX_PATH_LENGTH)
    return f"{name} = {shown(value, MAX_PHRASE_LENGTH - len(name) - 3)}"


def _follow(variables: Mapping[str, object], path: Sequence[str | int]) -> tuple[object, int]:
    """The value at the path, and how many of its steps there are."""
    value: object = variables
    for number, step in enumerate(path):
        member = isinstance(value, Mapping) and isinstance(step, str) and step in value
        if not member and not (isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)):
            return _MISSING, number
        value = value[step]  # type: ignore[index]
    return value, len(path)


def _path(tokens: _Tokens, index: int) -> tuple[list[str | int], int]:
    """The fields from a variable on, and the index after them. The name of a method that is called is no field."""
    path: list[str | int] = [tokens[index].text]
    index += 1
    while index + 1 < len(tokens):
        text = tokens[index].text
        called = index + 2 < len(tokens) and tokens[index + 2].text == "("
        if text == "." and tokens[index + 1].kind == "name" and not called:
            path.append(tokens[index + 1].text)
            index += 2
        elif text == "[" and index + 2 < len(tokens) and tokens[index + 2].text == "]":
            step = _literal(tokens[index + 1])
            if step is None:
                break
            path.append(step)
            index += 3
        else:
            break
    return path, index


def _literal(token: Token) -> str | int | None:
    if token.kind not in ("string", "number"):
        return None
    try:
        value = ast.literal_eval(token.text)  # CEL's escapes that Python has not are written in no field's name
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str | int) else None


def _label(path: Sequence[str | int]) -> str:
    return str(path[0]) + "".join(
        f".{step}" if isinstance(step, str) and re.fullmatch(r"[A-Za-z_]\w*", step, re.ASCII) else f"[{_step(step)}]"
        for step in path[1:]
    )


def _step(step: str | int) -> str:
    return shown(step, 40)
