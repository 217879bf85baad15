"""`python -m tests.bench [NAME...]`: the named benchmarks, or all of them.

On the control plane alone, services as processes: gate, creation, ends, leaked-key, introspection, scale, startup,
verification, registry-latency, storm, large-attestation. On the real node, services as pods: pods, churn,
footprint; these need Linux and root. In this one process: uses.
"""

import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from rich.console import Console, RenderableType

from tests.bench import (
    churn,
    creation,
    ends,
    footprint,
    gate,
    introspection,
    large_attestation,
    leaked_key,
    pod_start,
    registry_latency,
    scale,
    startup,
    storm,
    uses,
    verification,
)
from tests.bench.node_setting import NodeSetting, on_node
from tests.bench.setting import Setting, prepare
from tests.lab.lab import Lab
from tests.lab.realnode import requirements
from tests.stack.installation import Installation

Where = TypeVar("Where")

Say = Callable[[str], None]
Measure = Callable[[Setting, Say], RenderableType]
MeasureOnNode = Callable[[NodeSetting, Say], RenderableType]
BENCHMARKS: dict[str, Measure] = {
    "gate": gate.measure,
    "creation": creation.measure,
    "ends": ends.measure,
    "leaked-key": leaked_key.measure,
    "introspection": introspection.measure,
    "scale": scale.measure,
    "startup": startup.measure,
    "verification": verification.measure,
    "registry-latency": registry_latency.measure,
    "storm": storm.measure,
    "large-attestation": large_attestation.measure,
}
"""Those with policies and images of their own last: the others shall not meet them."""
ON_NODE: dict[str, MeasureOnNode] = {
    "pods": pod_start.measure,
    "churn": churn.measure,
    "footprint": footprint.measure,
}
"""The footprint last: it leaves the cluster full."""
ALONE: dict[str, Callable[[Say], RenderableType]] = {"uses": uses.measure}


def main(names: list[str]) -> int:
    """Run the named benchmarks and print their tables."""
    known = (*BENCHMARKS, *ON_NODE, *ALONE)
    unknown = [name for name in names if name not in known]
    console = Console(width=None if sys.stdout.isatty() else 150)
    if unknown:
        console.print(f"no benchmark is called {', '.join(unknown)}: choose from {', '.join(known)}")
        return 2
    chosen = names or known
    if any(name in BENCHMARKS for name in chosen):
        with Lab.start() as lab, Installation.start(lab, revives=False) as countersign:
            setting = prepare(lab, countersign)
            # One asker asks as fast as it can here: without the limit that is meant for exactly that.
            countersign.stop("verifier")
            countersign.start_service("verifier", asker_rate="0")
            _each({name: one for name, one in BENCHMARKS.items() if name in chosen}, setting, console)
    _each({name: partial(_alone, one) for name, one in ALONE.items() if name in chosen}, None, console)
    if any(name in ON_NODE for name in chosen):
        if why_not := requirements.missing():
            console.print(f"not measured: {', '.join(name for name in ON_NODE if name in chosen)}: {why_not}")
        else:
            with on_node() as node_setting:
                _each({name: one for name, one in ON_NODE.items() if name in chosen}, node_setting, console)
    console.print(f"{platform.machine()}, Python {platform.python_version()}, one machine, TLS everywhere")
    return 0


def _alone(measure: Callable[[Say], RenderableType], _nowhere: None, say: Say) -> RenderableType:
    return measure(say)


def _each(measures: Mapping[str, Callable[[Where, Say], RenderableType]], where: Where, console: Console) -> None:
    progress = Console(stderr=True)
    for name, measure in measures.items():
        began = time.perf_counter()
        console.print(measure(where, lambda text: progress.print(text, style="dim")))
        progress.print(f"{name}: {time.perf_counter() - began:.0f} s", style="dim")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
