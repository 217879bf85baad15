"""Two hundred Jobs on a real node, twenty at a time: each pod's grant is made and revoked, none is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.table import Table

from tests.bench.node_setting import NodeSetting
from tests.stack import objects
from tests.stack.objects import Object

JOBS = 200
IN_FLIGHT = 20
LIMIT_SECONDS = 900


def measure(setting: NodeSetting, say: Callable[[str], None]) -> Table:
    """Once without Countersign for the baseline, once with."""
    table = Table(title=f"{JOBS} Jobs on one real node, {IN_FLIGHT} in flight")
    for column in ("", "seconds", "Jobs/s", "failed"):
        table.add_column(column, justify="left" if not column else "right")
    for name, namespace in (("without Countersign", setting.free), ("with Countersign", setting.governed)):
        say(f"{JOBS} Jobs {name}")
        began = time.perf_counter()
        failed = _run(setting, namespace)
        seconds = time.perf_counter() - began
        table.add_row(name, f"{seconds:.1f}", f"{JOBS / seconds:.1f}", str(failed))
    grants = setting.cluster.wait(lambda: _all_ended(setting), what="every grant is Revoked", seconds=60)
    reasons = {grant["status"]["reason"] for grant in grants}
    table.caption = f"grants: {len(grants)} made, {len(grants)} revoked ({', '.join(sorted(reasons))}), none lost"
    return table


def _run(setting: NodeSetting, namespace: str) -> int:
    """Keep so many Jobs going until all have ended; returns how many failed."""
    waiting = [_job(setting, namespace, number) for number in range(JOBS)]
    path = objects.collection_path(waiting[0])
    deadline = time.monotonic() + LIMIT_SECONDS
    started = 0
    while True:
        jobs = setting.cluster.items(path, labelSelector="bench=churn")
        ended = [job for job in jobs if _has_ended(job)]
        if len(ended) == JOBS:
            return sum(1 for job in ended if not job["status"].get("succeeded"))
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(ended)} of {JOBS} Jobs ended within {LIMIT_SECONDS} s")
        while waiting and started - len(ended) < IN_FLIGHT:
            setting.cluster.create(waiting.pop())
            started += 1
        time.sleep(0.2)


def _job(setting: NodeSetting, namespace: str, number: int) -> Object:
    made = objects.job(f"churn-{number}", namespace, setting.spec("work", "-for", "500ms"))
    made["metadata"]["labels"] = {"bench": "churn"}
    return made


def _has_ended(job: Object) -> bool:
    return bool(job.get("status", {}).get("succeeded") or job.get("status", {}).get("failed"))


def _all_ended(setting: NodeSetting) -> list[Object] | None:
    path = f"/apis/countersign.dev/v1alpha1/namespaces/{setting.governed}/workloadgrants"
    grants = [one for one in setting.cluster.items(path) if one["spec"]["pod"]["name"].startswith("churn-")]
    ended = [one for one in grants if one.get("status", {}).get("state") == "Revoked"]
    return grants if len(grants) == len(ended) == JOBS else None
