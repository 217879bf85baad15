"""Entry point: `countersign`, and `kubectl countersign` (kubectl finds plug-ins by the program's name).

A command's module is imported when that command runs, so that a service loads nothing of the others: the gate starts
without the official Kubernetes client, kopf or the tables of the command line.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer

from countersign import __version__


class Command(NamedTuple):
    """Where a command's function lives; `function` is empty for a group, whose module has `app`."""

    module: str
    function: str = ""


COMMANDS: dict[str, Command] = {
    "image": Command("countersign.cli.image"),
    "policy": Command("countersign.cli.policy"),
    "explain": Command("countersign.cli.explain", "explain"),
    "grants": Command("countersign.cli.grants", "grants"),
    "token": Command("countersign.cli.token"),
    "revoke": Command("countersign.cli.revoke", "revoke"),
    "doctor": Command("countersign.cli.doctor", "doctor"),
}
SERVICES = ("gate", "controller", "verifier")


def application(only: str | None = None) -> typer.Typer:
    """The whole command line, or just the part of one command."""
    app = typer.Typer(
        name="countersign",
        help="Workload identity that rests on evidence about this very pod.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich cuts long option names short at 80 columns, and costs 0.2 s
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, command in COMMANDS.items():
        if only not in (None, name):
            continue
        module = import_module(command.module)
        if command.function:
            app.command(name)(getattr(module, command.function))
        else:
            app.add_typer(module.app, name=name)
    for name in SERVICES:
        if only in (None, name):
            app.command(name)(_service(name))
    return app


def _service(name: str) -> Callable[..., Any]:
    from countersign.cli import services

    return services.command(name)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_show_version, is_eager=True
    ),
) -> None:
    del version  # its callback has seen to it


def run() -> None:
    """Run the command line."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    program = "kubectl countersign" if Path(sys.argv[0]).name.startswith("kubectl-") else "countersign"
    application(first if first in (*COMMANDS, *SERVICES) else None)(prog_name=program)


if __name__ == "__main__":
    run()
