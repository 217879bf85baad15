"""The warm gate doing its whole work (verified, pinned, injected) against a webhook that allows at once."""

import base64
import json
import statistics
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonpatch
from rich.table import Table

from tests.bench.load_generator import Load, pin, request, resident_mib, run, unpin
from tests.bench.reviews import allow_all_webhook, review
from tests.bench.setting import Setting
from tests.lab.http import HttpClient
from tests.lab.processes import Process

ROUNDS = 3
IN_FLIGHT = (1, 32)


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Rates for one core, with one request in flight and with 32; each cell the median of the rounds."""
    by_tag, by_digest = review(setting, [setting.image.by_tag]), review(setting, [setting.image.by_digest])
    with allow_all_webhook(setting, by_tag) as (url, process):
        return _measured(setting, say, url, process, by_tag, by_digest)


def _measured(
    setting: Setting, say: Callable[[str], None], base_url: str, baseline: Process, by_tag: Any, by_digest: Any
) -> Table:
    gate = setting.countersign.services["gate"]
    lab = setting.lab
    gate_ca = setting.countersign.ca_file("gate")
    door = HttpClient(f"https://127.0.0.1:{gate.port}", ca_file=gate_ca)
    gate_url = f"https://127.0.0.1:{gate.port}"

    def mutate(asked: Any) -> Callable[[], Any]:
        return lambda: request("/mutate?timeout=10s", asked)

    def validate() -> Any:
        # Made anew for each run: a receipt is good for seconds.
        return request("/validate?timeout=10s", _validated(by_tag, door))

    targets: list[tuple[str, str, Path, Callable[[], Any], str]] = [
        ("allow-all webhook", base_url, lab.ca_file, mutate(by_tag), '"allowed":true'),
        ("gate /mutate, image by tag", gate_url, gate_ca, mutate(by_tag), '"patch":"'),
        ("gate /mutate, image by digest", gate_url, gate_ca, mutate(by_digest), '"patch":"'),
        ("gate /validate", gate_url, gate_ca, validate, '"allowed":true'),
    ]
    pin(gate.pid)
    pin(baseline.pid)
    results: dict[tuple[str, int], list[Load]] = {}
    # The rounds take turns, so that a slow minute of the machine hits all alike.
    for number in range(ROUNDS):
        for in_flight in IN_FLIGHT:
            for name, url, ca, make, expect in targets:
                say(f"round {number + 1}: {name}, {in_flight} in flight")
                load = run(url, [make()], ca=ca, folder=lab.folder, in_flight=in_flight, expect=expect)
                results.setdefault((name, in_flight), []).append(load)
    memory = resident_mib(gate.pid)
    unpin(gate.pid)
    for loads in results.values():
        if failures := [load.first_failure for load in loads if load.failed]:
            say(failures[0])
    table = Table(title=f"Gate, warm, one core (review of {len(json.dumps(by_tag))} bytes; gate {memory:.0f} MiB)")
    for column in ("", "in flight", "req/s", "of baseline", "p50 ms", "p99 ms", "x baseline p99", "failed"):
        table.add_column(column, justify="left" if not column else "right")
    for in_flight in IN_FLIGHT:
        base = results[targets[0][0], in_flight]
        for name, *_ in targets:
            loads = results[name, in_flight]
            rate = statistics.median(load.rate for load in loads)
            p99 = statistics.median(load.p99_ms for load in loads)
            table.add_row(
                name, str(in_flight), f"{rate:,.0f}", f"{rate / statistics.median(load.rate for load in base):.2f}",
                f"{statistics.median(load.p50_ms for load in loads):.2f}", f"{p99:.2f}",
                f"{p99 / statistics.median(load.p99_ms for load in base):.2f}", str(sum(load.failed for load in loads)),
            )  # fmt: skip
    return table


def _validated(mutation: Any, gate: HttpClient) -> Any:
    # The pod as it comes back for validation: patched by the gate's own answer, and with a name and a UID.
    answer = gate.post("/mutate", mutation, expect=200).body["response"]
    if "patch" not in answer:
        raise AssertionError(f"the gate does not patch the pod of this benchmark: {answer}")
    pod = jsonpatch.apply_patch(mutation["request"]["object"], json.loads(base64.b64decode(answer["patch"])))
    pod["metadata"] |= {"name": "bench-7d9c5b6f4-x2x2x", "uid": str(uuid.uuid4())}
    return {**mutation, "request": {**mutation["request"], "object": pod, "uid": str(uuid.uuid4())}}
