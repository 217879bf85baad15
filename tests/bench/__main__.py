"""`python -m tests.bench [NAME...]`: those of `BENCHMARKS` that are named, all of them without arguments."""

import platform
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tests.bench import creation, gate, introspection, leaked_key, revocation, thousand
from tests.bench.setting import Setting, prepare
from tests.lab.lab import Lab
from tests.stack.installation import Installation

Measure = Callable[[Setting, Callable[[str], None]], Table]
BENCHMARKS: dict[str, Measure] = {
    "gate": gate.measure,
    "creation": creation.measure,
    "revocation": revocation.measure,
    "leaked-key": leaked_key.measure,
    "introspection": introspection.measure,
    "thousand": thousand.measure,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks and print their tables."""
    unknown = [name for name in names if name not in BENCHMARKS]
    console = Console(width=None if sys.stdout.isatty() else 150)
    if unknown:
        console.print(f"no benchmark is called {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
        return 2
    progress = Console(stderr=True)
    with Lab.start() as lab, Installation.start(lab) as countersign:
        setting = prepare(lab, countersign)
        # One asker asks as fast as it can here: without the limit that is meant for exactly that.
        countersign.stop("verifier")
        countersign.start_service("verifier", asker_rate="0")
        for name in names or BENCHMARKS:
            began = time.perf_counter()
            console.print(BENCHMARKS[name](setting, lambda text: progress.print(text, style="dim")))
            progress.print(f"{name}: {time.perf_counter() - began:.0f} s", style="dim")
    console.print(f"{platform.machine()}, Python {platform.python_version()}, loopback, TLS everywhere")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
