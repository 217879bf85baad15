"""`countersign gate | controller | verifier`: run a service, its options derived from its settings.

The settings' dataclass is the one source: each field becomes an option and a `COUNTERSIGN_*` variable, its default the
default, the text below it the help. Only the module of the service at hand is imported.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from countersign.cli.exits import fail

T = TypeVar("T")

ENV_PREFIX = "COUNTERSIGN_"
_PLAIN = (str, int, float, Path)


class Service(NamedTuple):
    """Where a service lives: `settings_module` has the class `settings`, `module` has `run(settings) -> exit code`."""

    settings_module: str
    settings: str
    module: str
    summary: str


SERVICES: Mapping[str, Service] = {
    "gate": Service(
        "countersign.gate.settings",
        "GateSettings",
        "countersign.gate.service",
        "Run the gate: judge pods at admission, and requests for protected tokens.",
    ),
    "controller": Service(
        "countersign.controller.settings",
        "ControllerSettings",
        "countersign.controller.service",
        "Run the controller: write grants, follow pods, revoke, keep certificates and webhook configurations.",
    ),
    "verifier": Service(
        "countersign.verifier.settings",
        "VerifierSettings",
        "countersign.verifier.service",
        "Run the verifier: answer relying parties about tokens (RFC 7662).",
    ),
}


def command(name: str) -> Callable[..., None]:
    """The command of a service, ready for typer."""
    service = SERVICES[name]

    def run(settings: Any) -> int:
        code: int = import_module(service.module).run(settings)
        return code

    return command_for(settings_of(name), run, service.summary)


def settings_of(name: str) -> type[Any]:
    """The settings' class of a service."""
    service = SERVICES[name]
    settings: type[Any] = getattr(import_module(service.settings_module), service.settings)
    return settings


def command_for(settings: type[T], run: Callable[[T], int], summary: str) -> Callable[..., None]:
    """A command that fills `settings` from its options and ends with the exit code of `run`."""
    types = get_type_hints(settings)

    def main(**values: Any) -> None:
        try:
            configured = settings(**{field: _convert(types[field], value) for field, value in values.items()})
        except ValueError as error:
            fail(str(error))
        raise typer.Exit(run(configured))

    main.__doc__ = summary
    main.__signature__ = inspect.Signature(options(settings))  # type: ignore[attr-defined]
    return main


def options(settings: type[Any]) -> list[inspect.Parameter]:
    """A keyword parameter for each field, annotated as typer reads it. Raises TypeError on a type without an option."""
    types = get_type_hints(settings)
    docs = attribute_docs(settings)
    return [_option(field, types[field.name], docs.get(field.name, "")) for field in dataclasses.fields(settings)]


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


def _option(field: "dataclasses.Field[Any]", type_: Any, doc: str) -> inspect.Parameter:
    flag = "--" + field.name.replace("_", "-")
    default: Any = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    required = default is dataclasses.MISSING
    annotation, item = _annotation(field.name, type_)
    declaration = f"{flag}/--no-{flag[2:]}" if annotation is bool else flag
    help_ = doc.rstrip(".")
    if item is not None:
        help_ = f"{help_}. Repeatable; in the variable comma-separated" if help_ else "Repeatable"
        default = [str(value) for value in default] if not required else default
    envvar = ENV_PREFIX + field.name.upper()
    # A default that is made at run time, such as a host name, is another one on each machine.
    show = default != [] and field.default_factory is dataclasses.MISSING
    option = typer.Option(declaration, envvar=envvar, help=help_ + "." if help_ else None, show_default=show)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[annotation, option],
    )


def _annotation(name: str, type_: Any) -> tuple[Any, type | None]:
    """The annotation for typer, and the item's type if the option may be repeated."""
    if get_origin(type_) is tuple:
        item, *rest = get_args(type_)
        if item in _PLAIN and rest == [...]:
            return list[str], item
    elif get_origin(type_) in (Union, UnionType):
        (member,) = (part for part in get_args(type_) if part is not NoneType)
        if member in _PLAIN:
            return type_, None
    elif type_ is bool or type_ in _PLAIN:
        return type_, None
    raise TypeError(f"no option can be made of the setting {name}: {type_}")


def _convert(type_: Any, value: Any) -> Any:
    if get_origin(type_) is not tuple:
        return value
    item = get_args(type_)[0]
    # Typer divides the variable at white space; what is left may be divided by commas.
    return tuple(item(part) for text in value or () for part in text.split(",") if part)
