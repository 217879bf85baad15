"""The warm gate doing its whole work (verified, pinned, injected) against a webhook that allows at once."""

import base64
import json
import statistics
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonpatch
from rich.table import Table

from tests.bench import allow_all
from tests.bench.load_generator import Load, pin, request, resident_mib, run, unpin
from tests.bench.setting import FREE, GOVERNED, Setting
from tests.lab.http import HttpClient
from tests.lab.processes import free_port

ROUNDS = 3
IN_FLIGHT = (1, 32)
REQUESTER = {
    "username": "system:serviceaccount:kube-system:replicaset-controller",
    "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
}


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Rates for one core, with one request in flight and with 32; each cell the median of the rounds."""
    gate = setting.countersign.services["gate"]
    lab = setting.lab
    gate_ca = setting.countersign.ca_file("gate")
    pair = lab.ca.server("allow-all")
    port = free_port()
    baseline = lab.processes.start(
        "allow-all", [sys.executable, "-m", allow_all.__name__, str(port), str(pair.cert), str(pair.key)],
        lab.folder / "logs" / "allow-all.log",
    )  # fmt: skip
    client = HttpClient(f"https://127.0.0.1:{port}", ca_file=lab.ca_file)
    by_tag, by_digest = _review(setting, setting.image.by_tag), _review(setting, setting.image.by_digest)
    baseline.wait_until(lambda: _answers(client, by_tag), what="the baseline answers")
    door = HttpClient(f"https://127.0.0.1:{gate.port}", ca_file=gate_ca)
    gate_url, base_url = f"https://127.0.0.1:{gate.port}", f"https://127.0.0.1:{port}"

    def mutate(review: Any) -> Callable[[], Any]:
        return lambda: request("/mutate?timeout=10s", review)

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
    lab.processes.stop(baseline)
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


def _review(setting: Setting, image: str) -> Any:
    # What the API server shows a mutating webhook: its own defaults filled in, no UID, a generated name to come.
    # A dry run in a namespace that nothing governs yields them.
    made = setting.lab.admin.post(
        f"/api/v1/namespaces/{FREE}/pods", setting.pod("bench", FREE), query={"dryRun": "All"}, expect=201
    ).body
    made["spec"]["containers"][0]["image"] = image
    metadata = {"generateName": "bench-7d9c5b6f4-", "namespace": GOVERNED, "labels": {"app": "bench"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"], "status": {}}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": str(uuid.uuid4()),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": GOVERNED,
            "operation": "CREATE",
            "userInfo": REQUESTER,
            "object": pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _validated(mutation: Any, gate: HttpClient) -> Any:
    # The pod as it comes back for validation: patched by the gate's own answer, and with a name and a UID.
    answer = gate.post("/mutate", mutation, expect=200).body["response"]
    if "patch" not in answer:
        raise AssertionError(f"the gate does not patch the pod of this benchmark: {answer}")
    pod = jsonpatch.apply_patch(mutation["request"]["object"], json.loads(base64.b64decode(answer["patch"])))
    pod["metadata"] |= {"name": "bench-7d9c5b6f4-x2x2x", "uid": str(uuid.uuid4())}
    return {**mutation, "request": {**mutation["request"], "object": pod, "uid": str(uuid.uuid4())}}


def _answers(client: HttpClient, review: Any) -> bool:
    try:
        return client.post("/", review).status == 200
    except Exception:  # not up yet: whatever the transport says
        return False
