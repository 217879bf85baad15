"""Exit codes, so that scripts can tell a *no* from a failure to find out."""

from enum import IntEnum
from typing import NoReturn

import typer


class Exit(IntEnum):
    """What the command's exit status says. Documented in docs/commands.md."""

    YES = 0
    """Done, admitted, verified, active, healthy."""
    NO = 1
    """The answer is no: denied, unsigned, inactive, problems found."""
    USAGE = 2
    """The command could not be understood or carried out."""
    UNKNOWN = 3
    """It could not be found out now (time-out, registry or cluster out of reach): try again."""


def fail(message: str, code: Exit = Exit.USAGE) -> NoReturn:
    """Tell on stderr what went wrong and what to do, and end the command."""
    typer.secho("error: ", nl=False, err=True, fg="red", bold=True)
    typer.echo(printable(message), err=True)
    raise typer.Exit(code)


def note(message: str) -> None:
    """A remark on stderr, out of the way of the output."""
    typer.echo(printable(message), err=True)


def printable(text: str) -> str:
    """The text without what a terminal would obey: names, messages and images were written by others."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
