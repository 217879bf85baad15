"""The demo's entry point: `python -m tests.demo [--node]`. Exits non-zero if any step did not go as told."""

import argparse
import sys

from rich.console import Console

from tests.demo import control_plane, real_node
from tests.lab.realnode import requirements


def main(arguments: list[str]) -> int:
    """Tell one of the two stories; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--node", action="store_true", help="with pods that really run (Linux, root)")
    chosen = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if chosen.node and (why_not := requirements.missing()):
        console.print(f"no real node here: {why_not}. `make demo` alone plays the kubelet's part.")
        return 2
    console.print("[bold]Countersign: identity that rests on evidence about this very pod[/]")
    story = real_node if chosen.node else control_plane
    return 0 if story.tell_all(console) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
