"""`countersign gate | controller | verifier`: run a service, its options derived from its settings.

The settings' dataclass is the one source: each field becomes an option and a `COUNTERSIGN_*` variable, its default the
default, the text below it the help. By argparse, since typer brings pydantic along at the first option that it parses:
0.2 s and 14 MB that each service would keep.
"""

import argparse
import ast
import dataclasses
import inspect
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from countersign.lean import hidden

T = TypeVar("T")

ENV_PREFIX: Final = "COUNTERSIGN_"

_PLAIN: Final = (str, int, float, Path)
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Service(NamedTuple):
    """Where a service lives: `<room>.settings` has the class `settings`, `<room>.service` has `run(settings)`."""

    room: str
    settings: str
    summary: str


SERVICES: Final[Mapping[str, Service]] = {
    "gate": Service(
        "countersign.gate", "GateSettings", "Run the gate: judge pods at admission, and requests for protected tokens."
    ),
    "controller": Service(
        "countersign.controller",
        "ControllerSettings",
        "Run the controller: write grants, follow pods, revoke, keep certificates and webhook configurations.",
    ),
    "verifier": Service(
        "countersign.verifier",
        "VerifierSettings",
        "Run the verifier: answer relying parties about tokens (RFC 7662).",
    ),
}


class Option(NamedTuple):
    """One setting as people write it."""

    name: str
    kind: type
    """Of the value, or of each value if it may be repeated."""
    repeatable: bool
    required: bool
    default: str
    """As it is shown: empty for nothing, and for what is made at run time and so differs between machines."""
    doc: str

    @property
    def flag(self) -> str:
        """`--kebab-case`."""
        return "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """The flag, and the one that turns it off."""
        return (self.flag, f"--no-{self.flag[2:]}") if self.kind is bool else (self.flag,)

    @property
    def variable(self) -> str:
        """The variable that counts where the flag is missing."""
        return ENV_PREFIX + self.name.upper()

    def read(self, text: str) -> Any:
        """The value of the variable, or of one flag. Raises ValueError."""
        if self.repeatable:
            return tuple(self.kind(part) for part in text.split(",") if part)
        if self.kind is bool:
            try:
                return _BOOLEANS[text.lower()]
            except KeyError:
                raise ValueError(f"write one of {', '.join(_BOOLEANS)}") from None
        return self.kind(text)


def run(name: str, arguments: Sequence[str], program: str = "countersign") -> int:
    """Run a service until it is told to end; returns its exit code. Raises SystemExit on options that mean nothing."""
    service = SERVICES[name]
    configured = parse(settings_of(name), arguments, prog=f"{program} {name}", description=service.summary)
    # structlog loads rich wherever it is installed, for tracebacks that no service prints.
    with hidden("rich"):
        import_module("structlog")
    code: int = import_module(f"{service.room}.service").run(configured)
    return code


def settings_of(name: str) -> type[Any]:
    """The settings' class of a service."""
    service = SERVICES[name]
    settings: type[Any] = getattr(import_module(f"{service.room}.settings"), service.settings)
    return settings


def parse(settings: type[T], arguments: Sequence[str], environment: Mapping[str, str] = os.environ, **about: str) -> T:
    """The settings of a command line. Raises SystemExit: 0 after the help, 2 on what means nothing."""
    parser = argparse.ArgumentParser(**about, allow_abbrev=False)  # type: ignore[arg-type]
    every = list(options(settings))
    for option in every:
        _add(parser, option)
    given = vars(parser.parse_args(arguments))
    values: dict[str, Any] = {}
    for option in every:
        value = given[option.name]
        text = environment.get(option.variable, "")
        if value is not None:
            values[option.name] = tuple(one for several in value for one in several) if option.repeatable else value
        elif text:
            values[option.name] = _from_variable(parser, option, text)
        elif option.required:
            parser.error(f"{option.flag} or {option.variable} is required")
    try:
        return settings(**values)
    except ValueError as error:
        parser.error(str(error))


def options(settings: type[Any]) -> Iterator[Option]:
    """The options of the fields, in their order. Raises TypeError on a type that no option can be made of."""
    types = get_type_hints(settings)
    docs = attribute_docs(settings)
    for field in dataclasses.fields(settings):
        kind, repeatable = _kind(field.name, types[field.name])
        made = field.default_factory is not dataclasses.MISSING
        required = not made and field.default is dataclasses.MISSING
        shown = "" if made or required or field.default in (None, "", ()) else _shown(field.default)
        yield Option(field.name, kind, repeatable, required, shown, docs.get(field.name, ""))


def attribute_docs(cls: type[Any]) -> dict[str, str]:
    """The string below each field, which Python itself does not keep. Empty where the source is not at hand."""
    try:
        source = inspect.getsource(cls)
    except OSError:
        return {}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class
    docs = {}
    for member, following in zip(definition.body, definition.body[1:], strict=False):
        match member, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    remarks = [option.variable]
    if option.repeatable:
        remarks.append("repeatable, or comma-separated")
    if option.default:
        remarks.append(f"default: {option.default}")
    help_ = f"{option.doc} [{'; '.join(remarks)}]".strip().replace("%", "%%")
    if option.kind is bool:
        parser.add_argument(option.flag, dest=option.name, action=argparse.BooleanOptionalAction, help=help_)
        return
    parser.add_argument(
        option.flag,
        dest=option.name,
        type=_typed(option),
        action="append" if option.repeatable else "store",
        metavar=option.kind.__name__.upper(),
        help=help_,
    )


def _typed(option: Option) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        return option.read(text)

    read.__name__ = option.kind.__name__  # argparse: "invalid int value"
    return read


def _from_variable(parser: argparse.ArgumentParser, option: Option, text: str) -> Any:
    try:
        return option.read(text)
    except ValueError as error:
        parser.error(f"{option.variable}={text!r}: {error}")


def _kind(name: str, type_: Any) -> tuple[type, bool]:
    """The type of the value, or of each value if there may be several."""
    if get_origin(type_) is tuple:
        item, *rest = get_args(type_)
        if item in _PLAIN and rest == [...]:
            return item, True
    elif get_origin(type_) in (Union, UnionType):
        members = [part for part in get_args(type_) if part is not NoneType]
        if len(members) == 1 and members[0] in _PLAIN:
            return members[0], False
    elif type_ is bool or type_ in _PLAIN:
        return type_, False
    raise TypeError(f"no option can be made of the setting {name}: {type_}")


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)
