"""From the node's status update to `active: false`, and to the grant's final state in the API server."""

import time
from collections.abc import Callable

from rich.table import Table

from tests.bench.setting import AUDIENCE, GOVERNED, Setting
from tests.bench.statistics_of import quantiles
from tests.stack.installation import introspect

PODS = 100


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Each pod runs, is active, completes; the clock starts when the status request is sent."""
    lab, countersign = setting.lab, setting.countersign
    node = lab.node("bench-1")
    client = countersign.verifier_client()
    inactive: list[float] = []
    revoked: list[float] = []
    for number in range(PODS):
        if number % 20 == 0:
            say(f"revocation: {number} of {PODS}")
        pod = node.run(
            lab.admin.post(f"/api/v1/namespaces/{GOVERNED}/pods", setting.pod(f"end-{number}"), expect=201).body
        )
        grant = countersign.grant_of(pod, state="Active")
        token = node.token(pod, AUDIENCE)
        if not introspect(client, token, setting.asker).body["active"]:
            raise AssertionError("a running pod's token is not active: there is nothing to measure")
        began = time.perf_counter()
        node.finish(pod)
        while introspect(client, token, setting.asker).body["active"]:
            pass
        inactive.append((time.perf_counter() - began) * 1000)
        path = f"/apis/countersign.dev/v1alpha1/namespaces/{GOVERNED}/workloadgrants/{grant['metadata']['name']}"
        while lab.admin.get(path, expect=200).body["status"]["state"] != "Revoked":
            pass
        revoked.append((time.perf_counter() - began) * 1000)
    table = Table(title=f"A pod completes ({PODS} times; the status update's own round trip is included)")
    for column in ("", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in (("introspection says inactive", inactive), ("grant is Revoked", revoked)):
        table.add_row(name, *(f"{value:.1f}" for value in quantiles(values)))
    return table
