"""A thousand governed pods: how long a service takes to start, what each process holds, what a grant costs etcd."""

import base64
import time
from collections.abc import Callable

from rich.table import Table

from tests.bench.creation import clear, create
from tests.bench.load_generator import resident_mib
from tests.bench.setting import GOVERNED, Setting
from tests.lab.http import HttpClient
from tests.stack.installation import Service

PODS = 1000
CREATING = 16
GRANTS = f"/apis/countersign.dev/v1alpha1/namespaces/{GOVERNED}/workloadgrants"


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Create the pods, wait for their grants, restart every service on them."""
    countersign = setting.countersign
    clear(setting, GOVERNED)
    setting.lab.wait_for(lambda: _active(setting) == 0, what="the grants of earlier pods have ended", timeout=60)
    say(f"creating {PODS} pods")
    began = time.perf_counter()
    load = create(setting, GOVERNED, PODS, CREATING)
    setting.lab.wait_for(lambda: _active(setting) >= PODS - load.failed, what="every pod has its grant", timeout=180)
    granted = time.perf_counter() - began
    rows = [
        (f"{PODS} pods created and granted", f"{granted:.1f} s ({load.failed} failed)"),
        ("a grant in etcd, median", f"{_bytes_per_grant(setting):,} bytes"),
    ]
    rows += [(f"{name}, having watched them come", f"{resident_mib(s.pid):.0f} MiB") for name, s in _services(setting)]
    for name in ("controller", "gate", "verifier"):
        say(f"restarting the {name} on {PODS} pods")
        countersign.stop(name)
        began = time.perf_counter()
        service = countersign.start_service(name)
        rows.append((f"{name}: start to ready on {PODS} pods", f"{time.perf_counter() - began:.1f} s"))
        if name == "controller":
            _caught_up(setting)
            rows.append(("controller: start to caught up", f"{time.perf_counter() - began:.1f} s"))
        time.sleep(5)
        rows.append((f"{name}: memory after that start", f"{resident_mib(service.pid):.0f} MiB"))
    table = Table(title=f"{PODS} governed pods")
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _services(setting: Setting) -> list[tuple[str, Service]]:
    return sorted(setting.countersign.services.items())


def _active(setting: Setting) -> int:
    items = setting.lab.admin.get(GRANTS, expect=200).body["items"]
    return sum(1 for item in items if item.get("status", {}).get("state") == "Active")


def _caught_up(setting: Setting) -> None:
    # A pod that ends right after the start is ended in its grant only once the controller has worked through the rest.
    node = setting.lab.node("bench-1")
    pod = setting.lab.pods(GOVERNED, count=1)[0]
    node.finish(node.run(pod))
    setting.countersign.grant_of(pod, state="Revoked", timeout=120)


def _bytes_per_grant(setting: Setting) -> int:
    # etcd's JSON gateway: POST /v3/kv/range, keys and values in base64 (etcd documentation, grpc gateway).
    pair = setting.lab.ca.client("kube-apiserver-etcd-client")
    etcd = HttpClient(
        setting.lab.control_plane.etcd_url, ca_file=setting.lab.ca_file, cert_file=pair.cert, key_file=pair.key
    )
    prefix = f"/registry/countersign.dev/workloadgrants/{GOVERNED}/".encode()
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    asked = {"key": base64.b64encode(prefix).decode(), "range_end": base64.b64encode(end).decode()}
    answer = etcd.post("/v3/kv/range", asked, expect=200).body
    sizes = sorted(len(base64.b64decode(kv["value"])) for kv in answer["kvs"])
    return sizes[len(sizes) // 2]
