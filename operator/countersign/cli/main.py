"""Entry point: `countersign`, and `kubectl countersign` (kubectl finds plug-ins by the program's name).

A command's module is imported when that command runs, so that a service loads nothing of the others: the gate starts
without the official Kubernetes client, kopf, or the parser and the tables of the commands for people.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from countersign import __version__
from countersign.cli import services

if TYPE_CHECKING:
    import typer


class Command(NamedTuple):
    """Where a command's function lives; `function` is empty for a group, whose module has `app`."""

    module: str
    function: str = ""


COMMANDS: dict[str, Command] = {
    "image": Command("countersign.cli.image.command"),
    "policy": Command("countersign.cli.policy.command"),
    "explain": Command("countersign.cli.pods.explain", "explain"),
    "grants": Command("countersign.cli.pods.grants", "grants"),
    "trace": Command("countersign.cli.record.command", "trace"),
    "token": Command("countersign.cli.tokens.check"),
    "revoke": Command("countersign.cli.orders.revoke", "revoke"),
    "exception": Command("countersign.cli.orders.exception"),
    "receipt-key": Command("countersign.cli.orders.receipt_key"),
    "pause": Command("countersign.cli.orders.pause", "pause"),
    "resume": Command("countersign.cli.orders.pause", "resume"),
    "adopt": Command("countersign.cli.pods.adopt", "adopt"),
    "doctor": Command("countersign.cli.diagnosis.doctor", "doctor"),
}

_HELP = "Workload identity that rests on evidence about this very pod."
_SERVICES = "Services, each with a --help of its own: " + ", ".join(services.SERVICES) + "."


def application(only: str | None = None) -> "typer.Typer":
    """The commands for people: all of them, or one."""
    import typer

    app = typer.Typer(
        name="countersign",
        help=_HELP,
        epilog=_SERVICES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich cuts long option names short at 80 columns, and costs 0.2 s
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(__version__)
            raise typer.Exit

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", callback=show_version, is_eager=True
        ),
    ) -> None:
        del version  # its callback has seen to it

    for name, command in COMMANDS.items():
        if only not in (None, name):
            continue
        module = import_module(command.module)
        if command.function:
            app.command(name)(getattr(module, command.function))
        else:
            app.add_typer(module.app, name=name)
    return app


def run() -> None:
    """Run the command line; ends with its exit code."""
    first, rest = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    program = "kubectl countersign" if Path(sys.argv[0]).name.startswith("kubectl-") else "countersign"
    if first in services.SERVICES:
        sys.exit(services.run(first, rest, program))
    application(first if first in COMMANDS else None)(prog_name=program)


if __name__ == "__main__":
    run()
