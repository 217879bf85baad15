"""From the creation of a pod to Running, on a real kubelet, with and without Countersign."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.table import Table

from tests.bench.node_setting import NodeSetting
from tests.bench.statistics_of import quantiles
from tests.stack import objects
from tests.stack.objects import Object

PODS = 100


def measure(setting: NodeSetting, say: Callable[[str], None]) -> Table:
    """Pods one after the other, in turns with and without, so that both meet the same machine."""
    plain: list[float] = []
    governed: list[float] = []
    for number in range(PODS + 1):
        if number % 20 == 0:
            say(f"pod {number} of {PODS}, with and without")
        took = (_start(setting, setting.free_pod(f"p{number}")), _start(setting, setting.governed_pod(f"p{number}")))
        if number:  # the first of each pulls the image
            plain.append(took[0])
            governed.append(took[1])
    table = Table(title=f"From creating a pod to Running, {PODS} pods each, one at a time")
    for column in ("", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in (("without Countersign", plain), ("with Countersign: verified, token mounted", governed)):
        table.add_row(name, *(f"{value * 1000:,.0f}" for value in quantiles(values)))
    added = [a - b for a, b in zip(quantiles(governed), quantiles(plain), strict=True)]
    table.add_row("added", *(f"{value * 1000:+,.0f}" for value in added))
    return table


def _start(setting: NodeSetting, pod: Object) -> float:
    """Seconds until a watch shows it Running; it is deleted afterwards."""
    meta = pod["metadata"]
    watch = setting.watch(f"/api/v1/namespaces/{meta['namespace']}/pods", f"metadata.name={meta['name']}")
    began = time.perf_counter()
    setting.cluster.api.post(objects.collection_path(pod), pod, expect=201)
    for event in watch:
        if event["object"].get("status", {}).get("phase") == "Running":
            break
    took = time.perf_counter() - began
    watch.close()
    setting.cluster.delete(pod, gracePeriodSeconds=0)
    return took
