"""An expression taken apart: the grammar of CEL (github.com/google/cel-spec, doc/langdef.md, "Syntax") as a tree.

What the rules of audiences never need is left out, and refused with what to write instead: bytes, floating-point and
unsigned numbers, maps, messages, `null`. What is read here means in CEL exactly what the tree says.
"""

import re
from typing import Final, NamedTuple, NoReturn

from countersign.trust.expressions.words import MAX_BRACKET_DEPTH, MAX_NEGATIONS, Token, hidden_character, tokens_of

MAX_DEPTH: Final = 64
"""Of the tree: it bounds the recursion of whoever walks it."""
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1
_RELATIONS: Final = ("<", "<=", ">", ">=", "==", "!=", "in")
_RESERVED: Final = frozenset(
    ("as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "package",
     "namespace", "return", "var", "void", "while", "true", "false", "null")
)  # fmt: skip
"""Names that CEL keeps for itself. After a dot `namespace` and the like are members nevertheless."""
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))", re.DOTALL
)
_SHORT: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class BadExpression(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The expression may not stand where it stands. The message is a phrase that says what to mend."""


class Literal(NamedTuple):
    """A text, a whole number, true or false."""

    value: str | int | bool


class Name(NamedTuple):
    """A variable."""

    name: str


class Member(NamedTuple):
    """`of.name`."""

    of: "Node"
    name: str


class Index(NamedTuple):
    """`of[at]`."""

    of: "Node"
    at: "Node"


class Call(NamedTuple):
    """`name(arguments)`, or `of.name(arguments)`."""

    of: "Node | None"
    name: str
    arguments: tuple["Node", ...]


class Unary(NamedTuple):
    """`!operand` or `-operand`."""

    operator: str
    operand: "Node"


class Binary(NamedTuple):
    """A relation or a sum: `<`, `==`, `in`, `+` and so on."""

    operator: str
    left: "Node"
    right: "Node"


class Chain(NamedTuple):
    """Operands between `&&`, or between `||`; CEL says that their order does not matter."""

    operator: str
    operands: tuple["Node", ...]


class Choice(NamedTuple):
    """`condition ? yes : no`."""

    condition: "Node"
    yes: "Node"
    no: "Node"


class Listed(NamedTuple):
    """`[items]`."""

    items: tuple["Node", ...]


Node = Literal | Name | Member | Index | Call | Unary | Binary | Chain | Choice | Listed


def parsed(expression: str, max_length: int) -> Node:
    """The tree. Raises BadExpression; defined for any text, in time linear in its length."""
    if not expression.strip():
        raise BadExpression("the expression is empty")
    if len(expression) > max_length:
        raise BadExpression(f"the expression is longer than {max_length} characters: make several of it")
    if hidden := hidden_character(expression):
        raise BadExpression(hidden)
    tokens = tokens_of(expression)
    if isinstance(tokens, str):
        raise BadExpression(tokens)
    return _Parser(tokens).whole()


_END: Final = Token("end", "")


class _Parser:
    """Recursive descent: one method for each production of the grammar."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._peek() is not _END:
            self._unexpected()
        return node

    def _peek(self) -> Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else _END

    def _take(self, *marks: str) -> str:
        """The next word, if it is one of these; else an empty text."""
        token = self._peek()
        if token.text in marks and token.kind in ("mark", "name"):
            self._next += 1
            return token.text
        return ""

    def _must(self, mark: str) -> None:
        if not self._take(mark):
            self._unexpected(f"`{mark}`")

    def _unexpected(self, wanted: str = "") -> NoReturn:
        token = self._peek()
        found = "it ends" if token is _END else f"found `{token.text[:40]}`"
        before = self._tokens[self._next - 1].text[:40] if self._next else ""
        after = f" after `{before}`" if before else ""
        raise BadExpression(f"it is no CEL: {found}{after}" + (f", where {wanted} is missing" if wanted else ""))

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_BRACKET_DEPTH:
            raise BadExpression(f"it is nested more than {MAX_BRACKET_DEPTH} deep")
        node = self._chain("||")
        if self._take("?"):
            yes = self._chain("||")
            self._must(":")
            node = Choice(node, yes, self._expression())
        self._depth -= 1
        return node

    def _chain(self, operator: str) -> Node:
        operands = [self._operand(operator)]
        while self._take(operator):
            operands.append(self._operand(operator))
        return operands[0] if len(operands) == 1 else Chain(operator, tuple(operands))

    def _operand(self, operator: str) -> Node:
        return self._chain("&&") if operator == "||" else self._relation()

    def _relation(self) -> Node:
        node = self._sum()
        while operator := self._take(*_RELATIONS):
            if isinstance(node, Binary) and node.operator in _RELATIONS:
                raise BadExpression(f"`{node.operator}` and `{operator}` follow one another: put brackets around one")
            node = Binary(operator, node, self._sum())
        return node

    def _sum(self) -> Node:
        node, length = self._unary(), 0
        while operator := self._take("+", "-", "*", "/", "%"):
            if operator not in "+-" or length >= MAX_NEGATIONS:
                raise BadExpression(f"`{operator}`: rules compare; they add or subtract {MAX_NEGATIONS} times at most")
            node, length = Binary(operator, node, self._unary()), length + 1
        return node

    def _unary(self) -> Node:
        operators = []
        while operator := self._take("!", "-"):
            operators.append(operator)
            if len(operators) > MAX_NEGATIONS or operator != operators[0]:
                raise BadExpression(f"`{''.join(operators)}`: one of them will do")
        if operators and operators[-1] == "-" and self._peek().kind == "number":
            operators.pop()
            node: Node = self._members(self._number(negative=True))
        else:
            node = self._members(self._primary())
        for operator in operators:
            node = Unary(operator, node)
        return node

    def _members(self, node: Node) -> Node:
        length = 0
        while mark := self._take(".", "["):
            length += 1
            if length > MAX_BRACKET_DEPTH:
                raise BadExpression(f"more than {MAX_BRACKET_DEPTH} members follow one another")
            if mark == "[":
                node = Index(node, self._expression())
                self._must("]")
                continue
            token = self._peek()
            if token.kind != "name":
                self._unexpected("the name of a member")
            self._next += 1
            node = Call(node, token.text, self._arguments(")")) if self._take("(") else Member(node, token.text)
        return node

    def _primary(self) -> Node:
        token = self._peek()
        if token.kind == "number":
            return self._number(negative=False)
        if self._take("("):
            node = self._expression()
            self._must(")")
            return node
        if self._take("["):
            return Listed(self._arguments("]"))
        if token.text in ("{", "."):
            raise BadExpression(f"`{token.text}`: there are no maps, messages and qualified names in rules")
        if token.kind not in ("string", "name"):
            self._unexpected("a value")
        self._next += 1
        if token.kind == "string":
            return Literal(_text(token.text))
        if token.text in ("true", "false"):
            return Literal(token.text == "true")
        if token.text in _RESERVED:
            raise BadExpression(f"`{token.text}` is no value in a rule: whether a member is known, `has(...)` tells")
        return Call(None, token.text, self._arguments(")")) if self._take("(") else Name(token.text)

    def _arguments(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        if self._take(end):
            return ()
        while True:
            found.append(self._expression())
            if self._take(end):
                return tuple(found)
            self._must(",")
            if end == "]" and self._take(end):  # a list may end with a comma
                return tuple(found)

    def _number(self, *, negative: bool) -> Literal:
        text = self._peek().text
        self._next += 1
        try:
            value = int(text, 16 if text[:2] in ("0x", "0X") else 10)
        except ValueError:
            raise BadExpression(f"{text[:40]}: rules know whole numbers only, such as 3600") from None
        value = -value if negative else value
        if not _INT_MIN <= value <= _INT_MAX:
            raise BadExpression(f"{text[:40]} does not fit 64 bits")
        return Literal(value)


def _text(token: str) -> str:
    """The text that a literal stands for."""
    prefix = token[: len(token) - len(token.lstrip("bBrR"))].lower()
    if "b" in prefix:
        raise BadExpression(f"{token[:40]}: there are no bytes in rules; leave the `b` out")
    body = token[len(prefix) :]
    quotes = 3 if len(body) >= 6 and body[:3] in ('"""', "'''") else 1
    inner = body[quotes:-quotes]
    return inner if "r" in prefix else _ESCAPE.sub(_unescaped, inner)


def _unescaped(match: re.Match[str]) -> str:
    short, two, four, eight, octal, _ = match.groups()
    if short:
        return _SHORT.get(short, short)
    code = int(octal, 8) if octal else int(two or four or eight or "-1", 16)
    if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise BadExpression(f"{match.group()[:12]} is no escape that CEL knows: write a backslash twice, or r'...'")
    return chr(code)
