"""Entry point: `countersign`, and `kubectl countersign` (kubectl finds plug-ins by the program's name).

A command's module is imported when that command runs, so that a service loads nothing of the others: the gate starts
without the official Kubernetes client, kopf or the tables of the command line.
"""

import sys
from importlib import import_module
from typing import NamedTuple

import typer

from countersign import __version__


class Command(NamedTuple):
    """Where a command's function lives; `function` is empty for a group, whose module has `app`."""

    module: str
    function: str = ""


COMMANDS: dict[str, Command] = {
    "gate": Command("countersign.cli.services", "gate"),
    "controller": Command("countersign.cli.services", "controller"),
    "verifier": Command("countersign.cli.services", "verifier"),
    "image": Command("countersign.cli.image"),
    "policy": Command("countersign.cli.policy"),
    "explain": Command("countersign.cli.explain", "explain"),
    "grants": Command("countersign.cli.grants", "grants"),
    "token": Command("countersign.cli.token"),
    "revoke": Command("countersign.cli.revoke", "revoke"),
    "doctor": Command("countersign.cli.doctor", "doctor"),
}


def application(only: str | None = None) -> typer.Typer:
    """The whole command line, or just the part of one command."""
    app = typer.Typer(
        name="countersign",
        help="Workload identity that rests on evidence about this very pod.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, command in COMMANDS.items():
        if only is not None and name != only:
            continue
        module = import_module(command.module)
        if command.function:
            app.command(name)(getattr(module, command.function))
        else:
            app.add_typer(module.app, name=name)
    return app


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def run() -> None:
    """Run the command line."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first == "--version":
        typer.echo(__version__)
        return
    application(first if first in COMMANDS else None)()


if __name__ == "__main__":
    run()
