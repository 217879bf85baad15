"""Memory of each service as a pod of the cluster: at rest, and with 5,000 governed pods on nodes that are played."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.table import Table

from tests.bench.node_setting import NodeSetting
from tests.lab.node import NodePlayer

PODS = 5000
PLAYED_NODES = 25
CREATING = 16
SETTLING_SECONDS = 20
LIMIT_SECONDS = 900.0
MIB = 1024 * 1024


def measure(setting: NodeSetting, say: Callable[[str], None]) -> Table:
    """What the kubelet reports of each container (stats/summary), before and after."""
    table = Table(
        title=f"Memory in the cluster, MiB (working set, as the kubelet counts it; {PODS:,} pods on played nodes)"
    )
    for column in ("", "at rest", f"{PODS:,} governed pods", "restarted on them"):
        table.add_column(column, justify="left" if not column else "right")
    time.sleep(SETTLING_SECONDS)
    rest = _memory(setting)
    say(f"creating {PODS:,} pods")
    began = time.perf_counter()
    _fill(setting, say)
    setting.cluster.wait(lambda: _active(setting) >= PODS, what="every pod has its grant", seconds=LIMIT_SECONDS)
    seconds = time.perf_counter() - began
    time.sleep(SETTLING_SECONDS)
    full = _memory(setting)
    say("restarting every service")
    setting.release.restart()
    time.sleep(SETTLING_SECONDS)
    restarted = _memory(setting)
    for name in ("controller", "gate", "verifier"):
        table.add_row(name, *(_span(found[name]) for found in (rest, full, restarted)))
    table.caption = f"{PODS:,} pods created, run and granted in {seconds:.0f} s; two replicas of each service"
    return table


def _fill(setting: NodeSetting, say: Callable[[str], None]) -> None:
    """Create the pods, bind them to nodes that are played, and report them Running."""
    lab = setting.lab
    nodes = [lab.node(f"played-{number}") for number in range(PLAYED_NODES)]
    for node in nodes:  # the services' own pods are to run where pods do
        lab.admin.patch(f"/api/v1/nodes/{node.name}", {"spec": {"unschedulable": True}}, expect=200)
    done = itertools.count(1)

    def one(number: int) -> None:
        node: NodePlayer = nodes[number % PLAYED_NODES]
        pod = setting.governed_pod(f"many-{number}", played=True)
        node.run(setting.cluster.create(pod))
        if (count := next(done)) % 500 == 0:
            say(f"{count:,} pods run")

    with ThreadPoolExecutor(CREATING) as pool:
        list(pool.map(one, range(PODS)))


def _active(setting: NodeSetting) -> int:
    path = f"/apis/countersign.dev/v1alpha1/namespaces/{setting.governed}/workloadgrants"
    return sum(1 for one in setting.cluster.items(path) if one.get("status", {}).get("state") == "Active")


def _memory(setting: NodeSetting) -> dict[str, list[float]]:
    """MiB of each replica, by service."""
    node = setting.lab.real_node.name
    summary = json.loads(setting.cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    found: dict[str, list[float]] = {}
    for pod in summary["pods"]:
        if pod["podRef"]["namespace"] == setting.release.namespace:
            for container in pod["containers"]:
                found.setdefault(container["name"], []).append(_bytes(container) / MIB)
    return found


def _bytes(container: Any) -> float:
    return float(container.get("memory", {}).get("workingSetBytes", 0))


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} and {high:.0f}"
