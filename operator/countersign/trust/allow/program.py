"""A rule made ready to run: its tree checked against the variables that there are, and turned into functions.

The language is a part of CEL, without dynamic types: every name and every type is known when the rule is applied, so a
slip of the pen is told then and not found out by a relying party. What is accepted means what it means in CEL
(github.com/google/cel-spec, doc/langdef.md); a property test holds that against an implementation of CEL.

No library evaluates it, for two reasons. A rule runs on the event loop of a verifier at every use of a token, where the
Rust implementation needs tenths of a millisecond only to copy the variables, and some 100 ms for a `filter` over
evidence. And it cannot be stopped, so that a time limit would need a process for each. Here each step is counted.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

from countersign.trust.allow.functions import CONSTANTS, METHODS, constant_of
from countersign.trust.allow.steps import (
    COMPREHENSIONS,
    Failed,
    Run,
    Step,
    all_of,
    any_of,
    comprehension,
    contained,
    element_member,
    equal,
    equal_lists,
    in_range,
    item,
    ordered,
    present,
    read,
)
from countersign.trust.allow.variables import (
    BOOL,
    INT,
    NONE,
    RECORDS,
    STRING,
    TIMESTAMP,
    VARIABLES,
    Type,
    list_of,
    scalar,
)
from countersign.trust.expressions.syntax import (
    BadExpression,
    Binary,
    Call,
    Chain,
    Choice,
    Index,
    Listed,
    Literal,
    Member,
    Name,
    Node,
    Unary,
    parsed,
)

MAX_EXPRESSION_LENGTH: Final = 1024
"""In characters; the API allows as many (`api.audience.AllowRule`)."""
MAX_DEPTH: Final = 64
"""Of the tree: it bounds the recursion of this module and of the functions that it makes."""
MAX_NESTED_COMPREHENSIONS: Final = 2
_AUTHORS: Final = ("labels", "annotations", "env", "ownerReferences")


class Operand(NamedTuple):
    """A part of a rule that is true or not."""

    run: Step
    paths: tuple[str, ...]
    """The values that it names, in their order."""


class Program(NamedTuple):
    """A rule that can be run."""

    run: Step
    slots: int
    """For the variables of comprehensions."""


class _Typed(NamedTuple):
    type: Type
    run: Step
    path: str = ""
    """Of a record or value that stands in the variables, and not in an element of a list."""


@lru_cache(maxsize=1024)
def problem(expression: str) -> str:
    """Why the expression may not stand in an audience, as a phrase that says what to mend; empty if it may.

    Defined for any text; takes time linear in its length, at most some milliseconds.
    """
    try:
        program(expression)
    except BadExpression as error:
        return str(error)
    return ""


def program(expression: str) -> Program:
    """The rule, ready to run. Raises BadExpression."""
    tree = parsed(expression, MAX_EXPRESSION_LENGTH)
    compiler = _Compiler()
    return Program(compiler.operand(tree).run, compiler.slots)


def operands(expression: str) -> tuple[Operand, ...]:
    """The operands of the rule's outermost `&&`; the whole, if there is none. Raises BadExpression."""
    tree = parsed(expression, MAX_EXPRESSION_LENGTH)
    parts = tree.operands if isinstance(tree, Chain) and tree.operator == "&&" else (tree,)
    compiler = _Compiler()
    return tuple(compiler.operand(one) for one in parts)


class _Compiler:
    def __init__(self) -> None:
        self.slots = 0
        self._scope: dict[str, tuple[Type, int]] = {}
        """Variables of the comprehensions around, with their places in `Run.slots`."""
        self._paths: dict[str, None] = {}
        self._nodes = 0
        self._depth = 0

    def operand(self, node: Node) -> Operand:
        self._paths = {}
        run = self._of(node, BOOL, "a rule").run
        return Operand(run, tuple(self._paths))

    def _of(self, node: Node, wanted: Type, what: str) -> _Typed:
        made = self._compile(node)
        if made.type != wanted:
            raise BadExpression(f"{what} must be of type {wanted}, and {_described(made)}")
        return made

    def _value(self, node: Node, what: str) -> _Typed:
        """Something that can be compared or listed."""
        made = self._compile(node)
        if not scalar(made.type):
            raise BadExpression(f"{what} takes texts, numbers, times, true and false, and {_described(made)}")
        return made

    def _compile(self, node: Node) -> _Typed:
        self._nodes += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadExpression(f"it is nested more than {MAX_DEPTH} deep")
        made = self._made(node)
        self._depth -= 1
        return made

    def _made(self, node: Node) -> _Typed:
        match node:
            case Literal(value):
                kind = BOOL if isinstance(value, bool) else INT if isinstance(value, int) else STRING
                return _Typed(kind, lambda _: value)
            case Name(name):
                return self._name(name)
            case Member(of, name):
                return self._member(self._compile(of), name)
            case Index(of, at):
                return self._index(of, at)
            case Call(of, name, arguments):
                return self._function(name, arguments) if of is None else self._method(of, name, arguments)
            case Unary(operator, operand):
                return self._unary(operator, operand)
            case Binary(operator, left, right):
                return self._binary(operator, left, right)
            case Chain(operator, operands):
                made = [self._of(one, BOOL, f"what `{operator}` joins").run for one in operands]
                return _Typed(BOOL, all_of(made) if operator == "&&" else any_of(made))
            case Choice(condition, yes, no):
                return self._choice(condition, yes, no)
            case Listed(items):
                return self._listed(items)

    def _name(self, name: str) -> _Typed:
        if name in self._scope:
            kind, slot = self._scope[name]
            return _Typed(kind, lambda run: run.slots[slot])
        if name not in VARIABLES:
            raise BadExpression(f"there is no variable {name[:80]!r}: there are {', '.join(VARIABLES)}")
        return _Typed(Type("record", name=name), _no_value, path=name)

    def _member(self, of: _Typed, name: str) -> _Typed:
        if of.type.kind != "record":
            raise BadExpression(f"`.{name[:80]}`: {_described(of)}, which has no members")
        members = RECORDS[of.type.name]
        if name in _AUTHORS and of.type.name in ("pod", "grant"):
            raise BadExpression(f"{of.path}.{name}: the pod's author writes them, so no rule can rest on them")
        if name not in members:
            raise BadExpression(f"{of.path or of.type} has no member {name[:80]!r}: there are {', '.join(members)}")
        kind = members[name].type
        if not of.path:
            return _Typed(kind, element_member(of.run, name))
        path = f"{of.path}.{name}"
        if kind.kind == "record":
            return _Typed(kind, _no_value, path=path)
        self._paths[path] = None
        return _Typed(kind, read(path), path=path)

    def _index(self, of: Node, at: Node) -> _Typed:
        listed = self._compile(of)
        if listed.type.kind != "list" or listed.type.of is None:
            raise BadExpression(f"`[...]`: {_described(listed)}; of a record, write `.name`")
        position = self._of(at, INT, "the place in a list").run
        return _Typed(listed.type.of, item(listed.run, position))

    def _function(self, name: str, arguments: tuple[Node, ...]) -> _Typed:
        if name == "has":
            return self._has(arguments)
        if name == "size" and len(arguments) == 1:
            return self._size(arguments[0])
        if len(arguments) == 1 and isinstance(arguments[0], Literal):
            made = constant_of(name, arguments[0].value)
            if made is not None:
                kind, value = made
                return _Typed(kind, lambda _: value)
        if name in CONSTANTS:
            raise BadExpression(f"{name} takes one text, written out, such as {CONSTANTS[name]}")
        raise BadExpression(f"there is no function {name[:80]!r}: there are has, size, timestamp and cidr")

    def _has(self, arguments: tuple[Node, ...]) -> _Typed:
        if len(arguments) != 1 or not isinstance(arguments[0], Member):
            raise BadExpression("has takes one member, such as has(request.path)")
        made = self._compile(arguments[0])
        if made.type.kind == "record":
            raise BadExpression(f"has({made.path}): {made.path} is always there; ask for one of its members")
        path = made.path
        return _Typed(BOOL, (lambda run: run.read(path) is not None) if path else present(made.run))

    def _size(self, of: Node) -> _Typed:
        measured = self._compile(of)
        if measured.type.kind not in ("list", "string"):
            raise BadExpression(f"size takes a list or a text, and {_described(measured)}")
        run = measured.run
        return _Typed(INT, lambda state: len(run(state)))

    def _method(self, of: Node, name: str, arguments: tuple[Node, ...]) -> _Typed:
        if name in COMPREHENSIONS:
            return self._comprehension(of, name, arguments)
        if name == "size" and not arguments:
            return self._size(of)
        target = self._compile(of)
        method = METHODS.get((target.type.kind, name))
        if method is None:
            there = [one for kind, one in METHODS if kind == target.type.kind]
            some = f"there are {', '.join(there)}" if there else "there are none"
            raise BadExpression(f"`.{name[:80]}(...)`: {_described(target)}, and of its methods {some}")
        if len(arguments) != len(method.takes):
            raise BadExpression(f"{name} takes {len(method.takes)} argument(s), not {len(arguments)}")
        made = [self._of(one, kind, f"what {name} takes") for one, kind in zip(arguments, method.takes, strict=True)]
        literals = [one.value if isinstance(one, Literal) else None for one in arguments]
        return _Typed(method.gives, method.make(target.run, [one.run for one in made], literals))

    def _comprehension(self, of: Node, name: str, arguments: tuple[Node, ...]) -> _Typed:
        listed = self._compile(of)
        if listed.type.kind != "list" or listed.type.of is None:
            raise BadExpression(f"{name} goes through a list, and {_described(listed)}")
        if len(arguments) != 2 or not isinstance(arguments[0], Name):
            raise BadExpression(f"{name} takes a name for the element and an expression, as {name}(e, ...)")
        variable = arguments[0].name
        if variable in self._scope or variable in VARIABLES:
            raise BadExpression(f"{name}: {variable[:80]!r} has a meaning already; choose another name for the element")
        if len(self._scope) >= MAX_NESTED_COMPREHENSIONS:
            raise BadExpression(
                f"more than {MAX_NESTED_COMPREHENSIONS} comprehensions ({', '.join(COMPREHENSIONS)}) are nested: each "
                "multiplies the work by the length of a list"
            )
        slot = len(self._scope)
        self.slots = max(self.slots, slot + 1)
        self._scope[variable] = (listed.type.of, slot)
        before = self._nodes
        body = self._value(arguments[1], "map") if name == "map" else self._of(arguments[1], BOOL, f"what {name} asks")
        del self._scope[variable]
        gives = list_of(body.type) if name == "map" else listed.type if name == "filter" else BOOL
        return _Typed(gives, comprehension(name, listed.run, body.run, slot, self._nodes - before))

    def _unary(self, operator: str, operand: Node) -> _Typed:
        if operator == "!":
            denied = self._of(operand, BOOL, "what `!` denies").run
            return _Typed(BOOL, lambda run: not denied(run))
        negated = self._of(operand, INT, "what `-` negates").run
        return _Typed(INT, lambda run: in_range(-negated(run)))

    def _binary(self, operator: str, left: Node, right: Node) -> _Typed:
        if operator in ("+", "-"):
            one, other = (self._of(side, INT, f"what `{operator}` takes").run for side in (left, right))
            if operator == "+":
                return _Typed(INT, lambda run: in_range(one(run) + other(run)))
            return _Typed(INT, lambda run: in_range(one(run) - other(run)))
        if operator == "in":
            return self._contained(left, right)
        first, second = self._compile(left), self._compile(right)
        if operator in ("==", "!="):
            if not _comparable(first.type, second.type):
                raise BadExpression(f"`{operator}`: {_described(first)}, {_described(second)}: they are never equal")
            compare = equal_lists if first.type.kind == "list" else equal
            return _Typed(BOOL, compare(first.run, second.run, equal=operator == "=="))
        if first.type != second.type or first.type not in (INT, STRING, TIMESTAMP):
            raise BadExpression(
                f"`{operator}` compares two numbers, two texts or two times; {_described(first)}, {_described(second)}"
            )
        return _Typed(BOOL, ordered(operator, first.run, second.run))

    def _contained(self, left: Node, right: Node) -> _Typed:
        element = self._value(left, "`in`")
        listed = self._compile(right)
        if listed.type.kind != "list" or listed.type.of not in (element.type, NONE):
            raise BadExpression(f"`in` looks for {element.type} in a list of such, and {_described(listed)}")
        return _Typed(BOOL, contained(listed.run, element.run))

    def _choice(self, condition: Node, yes: Node, no: Node) -> _Typed:
        asked = self._of(condition, BOOL, "what stands before `?`").run
        one, other = self._value(yes, "`? :`"), self._value(no, "`? :`")
        if one.type != other.type:
            raise BadExpression(f"`? :` gives one type: {_described(one)}, {_described(other)}")
        first, second = one.run, other.run
        return _Typed(one.type, lambda run: first(run) if asked(run) else second(run))

    def _listed(self, items: tuple[Node, ...]) -> _Typed:
        if not items:
            return _Typed(list_of(NONE), lambda _: ())
        made = [self._value(one, "a list") for one in items]
        if len({one.type for one in made}) > 1:
            raise BadExpression("a list holds values of one type")
        if all(isinstance(one, Literal) for one in items):
            constant = tuple(one.value for one in items if isinstance(one, Literal))
            return _Typed(list_of(made[0].type), lambda _: constant)
        runs = [one.run for one in made]
        return _Typed(list_of(made[0].type), lambda run: [one(run) for one in runs])


def _described(made: _Typed) -> str:
    return f"{made.path} is of type {made.type}" if made.path else f"this is of type {made.type}"


def _comparable(one: Type, other: Type) -> bool:
    if one.kind == other.kind == "list":
        return NONE in (one.of, other.of) or (one.of == other.of and one.of is not None and scalar(one.of))
    return one == other and scalar(one)


def _no_value(_: Run) -> Any:
    raise Failed("a record is no value")
