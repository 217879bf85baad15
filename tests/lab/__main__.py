"""The lab from the shell: `python -m tests.lab build | up | down | status | env | image`."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from tests.lab import builder, keeper
from tests.lab.image import command as image
from tests.lab.image.errors import ImageError
from tests.lab.processes import ProcessError
from tests.lab.programs import GROUPS, ON_DEMAND, PROGRAMS, select
from tests.lab.progress import PlainProgress, RichProgress
from tests.lab.realnode import requirements
from tests.lab.toolchain import ToolchainError

_UP_PROGRAMS = ("control-plane", "registries")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("\nInterrupted. What was compiled is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    except (builder.BuildError, ToolchainError, ProcessError, keeper.KeeperError, ImageError) as error:
        print(f"{error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="A real control plane for tests and demo.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build what is missing of these (default: all that can run here)")
    build.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*GROUPS, *PROGRAMS]))
    build.set_defaults(run=_build)
    for name, run, text in (
        ("up", _up, "start a control plane and two registries, and leave them running"),
        ("down", _down, "end what `up` started"),
        ("status", _status, "say whether it runs (exit status 3: it does not)"),
        ("env", _env, "print shell lines that set KUBECONFIG and PATH for it"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        if name == "up":
            command.add_argument("--node", action="store_true", help="with a real kubelet that runs pods (Linux, root)")
    keep = commands.add_parser("keep")
    keep.add_argument("--node", action="store_true")
    keep.set_defaults(run=_keep)
    image.add_to(commands)
    return parser


def _build(arguments: argparse.Namespace) -> int:
    try:
        names = [program.name for program in select(arguments.names or _usable())]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    _ensure(names)
    return 0


def _usable() -> list[str]:
    """The groups whose programs run on this machine."""
    return [one for one in GROUPS if one not in ON_DEMAND and (one != "node" or not requirements.missing())]


def _up(arguments: argparse.Namespace) -> int:
    _ensure((*_UP_PROGRAMS, "node") if arguments.node else _UP_PROGRAMS)
    state, started = keeper.up(node=arguments.node)
    print(f"The lab {'runs' if started else 'runs already'}: {state.url}, until `make lab-down`.")
    _describe(state)
    return 0


def _down(_: argparse.Namespace) -> int:
    print("The lab is down." if keeper.down() else "No lab was running.")
    return 0


def _status(_: argparse.Namespace) -> int:
    state = keeper.running()
    if state is None:
        print("No lab is running.")
        return 3
    print(f"The lab runs: {state.url} (process {state.pid}).")
    _describe(state)
    return 0


def _env(_: argparse.Namespace) -> int:
    state = keeper.running()
    if state is None:
        print("No lab is running: start one with `make lab`.", file=sys.stderr)
        return 3
    kubectl = builder.ensure(["kubectl"])["kubectl"]
    print(f"export KUBECONFIG={shlex.quote(state.kubeconfig)}")
    print(f'export PATH={shlex.quote(str(kubectl.parent))}:"$PATH"')
    return 0


def _keep(arguments: argparse.Namespace) -> int:
    keeper.keep(node=arguments.node)
    return 0


def _describe(state: keeper.State) -> None:
    if state.node:
        print(f"  node: {state.node} runs pods")
    for kind, host in state.registries.items():
        print(f"  registry ({kind}): {host}, CA {state.ca_file}")
    print(f"  logs: {state.logs}")
    print(f"  export KUBECONFIG={shlex.quote(state.kubeconfig)}")
    print('  eval "$(python -m tests.lab env)"   # the same, and kubectl on PATH')


def _ensure(names: Sequence[str]) -> None:
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(RichProgress(console)) if console.is_terminal else PlainProgress()
        builder.ensure(names, progress)


if __name__ == "__main__":
    sys.exit(main())
