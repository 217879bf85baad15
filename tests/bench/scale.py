"""Ten thousand governed pods: what each process holds, how it starts on them, and how fast an end still is."""

import base64
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rich.console import Group
from rich.table import Table

from tests.bench import ends
from tests.bench.creation import clear, create
from tests.bench.load_generator import cpu_seconds, resident_mib
from tests.bench.setting import GOVERNED, Setting
from tests.lab.http import HttpClient

PODS = 10_000
CREATING = 16
ENDED = 500
"""Pods that end while the controller is away."""
SETTLING_SECONDS = 20


def measure(setting: Setting, say: Callable[[str], None]) -> Group:
    """Create the pods, wait for their grants, end some, restart every service on them."""
    countersign = setting.countersign
    clear(setting, GOVERNED)
    setting.lab.wait_for(lambda: _in_state(setting, "Active") == 0, what="earlier grants have ended", timeout=60)
    say(f"creating {PODS} pods")
    began = time.perf_counter()
    load = create(setting, GOVERNED, PODS, CREATING)
    wanted = PODS - load.failed
    setting.lab.wait_for(lambda: _in_state(setting, "Active") >= wanted, what="every pod has its grant", timeout=600)
    rows = [
        (f"{PODS:,} pods created and granted", f"{time.perf_counter() - began:.0f} s ({load.failed} failed)"),
        ("a grant in etcd, median", f"{_bytes_per_grant(setting):,} bytes"),
    ]
    rows += [
        (f"{name}, having watched them come", f"{resident_mib(service.pid):.0f} MiB")
        for name, service in sorted(countersign.services.items())
    ]
    say("; ".join(": ".join(row) for row in rows))
    rows += _judging(setting, say)
    causes = ends.measure(setting, say)
    rows += _restarts(setting, say)
    table = Table(title=f"{PODS:,} governed pods")
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        table.add_row(*row)
    return Group(table, f"With {PODS:,} other governed pods:", causes)


def _judging(setting: Setting, say: Callable[[str], None]) -> list[tuple[str, str]]:
    """What the controller spends on changes that concern nobody, one namespace, or everybody."""
    controller = setting.countersign.services["controller"]
    policy = "/apis/countersign.dev/v1alpha1/clustertrustpolicies/bench"

    def touched() -> None:
        setting.lab.admin.patch(policy, {"spec": {"owner": "others@example.com"}}, expect=200)

    changes: dict[str, Callable[[], object]] = {
        "nothing changes": lambda: None,
        "a namespace is made": lambda: setting.lab.create_namespace("bench-later"),
        "its policy changes": touched,
    }
    rows = []
    for what, change in changes.items():
        say(f"{what}: {SETTLING_SECONDS} s")
        before = cpu_seconds(controller.pid)
        change()
        time.sleep(SETTLING_SECONDS)
        spent = cpu_seconds(controller.pid) - before
        rows.append((f"controller: processor time in {SETTLING_SECONDS} s in which {what}", f"{spent:.2f} s"))
        say(": ".join(rows[-1]))
    return rows


def _restarts(setting: Setting, say: Callable[[str], None]) -> list[tuple[str, str]]:
    countersign, rows = setting.countersign, []
    for name in ("gate", "verifier", "controller"):
        say(f"restarting the {name} on {PODS} pods")
        over = _in_state(setting, "Revoked")
        countersign.stop(name)
        ended = _end_some(setting) if name == "controller" else 0
        began = time.perf_counter()
        flags = {"asker_rate": "0"} if name == "verifier" else {}
        service = countersign.start_service(name, wait=True, key="", **flags)
        rows.append((f"{name}: start to ready", f"{time.perf_counter() - began:.1f} s"))
        if ended:
            all_over = partial(_have_ended, setting, over + ended)
            setting.lab.wait_for(all_over, what="all ends are known", timeout=120)
            rows.append((f"controller: start to the last of {ended} ends", f"{time.perf_counter() - began:.1f} s"))
        time.sleep(5)
        rows.append((f"{name}: memory after that start", f"{resident_mib(service.pid):.0f} MiB"))
        say("; ".join(": ".join(row) for row in rows[-3:]))
    return rows


def _end_some(setting: Setting) -> int:
    """End so many pods that never ran, as their node would tell; how many."""
    pods = setting.lab.admin.get(ends.PODS, query={"limit": str(2 * ENDED)}, expect=200).body["items"]
    alive = [pod for pod in pods if pod["status"]["phase"] == "Pending"][:ENDED]

    def end(pod: dict[str, dict[str, str]]) -> None:
        path = f"{ends.PODS}/{pod['metadata']['name']}/status"
        setting.lab.admin.patch(path, {"status": {"phase": "Succeeded"}}, expect=200)

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(end, alive))
    return len(alive)


def _have_ended(setting: Setting, count: int) -> bool:
    return _in_state(setting, "Revoked") >= count


def _in_state(setting: Setting, state: str) -> int:
    """Of all grants, as the controller counts them: listing ten thousand would be a load of its own."""
    service = setting.countersign.services.get("controller")
    if service is not None and not service.process.running:
        raise AssertionError(f"the controller has ended by itself:\n{service.process.log_tail(30)}")
    told = service.metrics() if service is not None else ""
    found = re.search(rf'^countersign_controller_grants{{state="{state}"}} ([0-9.]+)$', told, re.MULTILINE)
    return int(float(found.group(1))) if found else 0


def _bytes_per_grant(setting: Setting) -> int:
    # etcd's JSON gateway: POST /v3/kv/range, keys and values in base64 (etcd documentation, grpc gateway).
    pair = setting.lab.ca.client("kube-apiserver-etcd-client")
    etcd = HttpClient(
        setting.lab.control_plane.etcd_url, ca_file=setting.lab.ca_file, cert_file=pair.cert, key_file=pair.key
    )
    prefix = f"/registry/countersign.dev/workloadgrants/{GOVERNED}/".encode()
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    asked = {
        "key": base64.b64encode(prefix).decode(),
        "range_end": base64.b64encode(end).decode(),
        "limit": "500",
    }
    answer = etcd.post("/v3/kv/range", asked, expect=200).body
    sizes = sorted(len(base64.b64decode(kv["value"])) for kv in answer["kvs"])
    return sizes[len(sizes) // 2]
