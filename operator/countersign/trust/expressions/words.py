"""The words of an expression in CEL (github.com/google/cel-spec, doc/langdef.md, "Syntax"), and what none may hold.

No CEL library is needed for this: it takes any text, in time linear in its length.
"""

import re
from typing import Final, NamedTuple

MAX_BRACKET_DEPTH: Final = 32
MAX_NEGATIONS: Final = 8
"""In a row. Both bound the recursion of whoever parses the expression."""

_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\n\r\f]+)
    | (?P<string>
          [bB]?[rR] (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n\r]*" | '[^'\n\r]*' )
        | [bB]? (?: \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3}
                | "(?:[^"\\\n\r]|\\.)*" | '(?:[^'\\\n\r]|\\.)*' )
      )
    | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]? )
    | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    | (?P<mark>&&|\|\||[=!<>]=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A word of CEL."""

    kind: str
    """string, number, name or mark."""
    text: str


def tokens_of(expression: str) -> list[Token] | str:
    """The words of an expression, or why it cannot be taken apart."""
    tokens: list[Token] = []
    position = 0
    while position < len(expression):
        if expression.startswith("//", position):
            return "the expression holds a comment: write it into the policy's YAML"
        match = _TOKEN.match(expression, position)
        if match is None:
            found = expression[position]
            if found in "\"'":
                return f"the string that {expression[position : position + 20]!r} begins has no end"
            return f"the character {found!r} has no meaning in CEL outside of a string"
        position = match.end()
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup or "", match.group()))
    return tokens


def hidden_character(expression: str) -> str:
    """What is wrong with a character that a reader of the policy would not see; empty if there is none."""
    hidden = next((one for one in expression if not one.isprintable() and one not in "\t\n\r"), None)
    if hidden is None:
        return ""
    return f"the character U+{ord(hidden):04X} cannot be seen: write it as an escape, such as \\u{ord(hidden):04x}"
