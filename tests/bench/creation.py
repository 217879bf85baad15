"""Pod CREATE through the API server, with and without Countersign, many in flight; none may fail."""

from collections.abc import Callable

from rich.table import Table

from tests.bench.load_generator import Load, request, run
from tests.bench.setting import FREE, GOVERNED, Setting

PODS = 200
IN_FLIGHT = (20, 50)


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """200 pods each; the governed ones are verified, pinned, injected and validated."""
    table = Table(title=f"Creating {PODS} pods through the API server")
    for column in ("", "in flight", "pods/s", "p50 ms", "p99 ms", "failed"):
        table.add_column(column, justify="left" if not column else "right")
    for in_flight in IN_FLIGHT:
        for name, namespace in (("without Countersign", FREE), ("with Countersign", GOVERNED)):
            say(f"{PODS} pods {name}, {in_flight} in flight")
            load = create(setting, namespace, PODS, in_flight)
            failed = f"{load.failed}" + (f" ({load.first_failure})" if load.failed else "")
            table.add_row(name, str(in_flight), f"{load.rate:,.0f}", f"{load.p50_ms:.0f}", f"{load.p99_ms:.0f}", failed)
            clear(setting, namespace)
    return table


def create(setting: Setting, namespace: str, count: int, in_flight: int) -> Load:
    """Create so many pods as the admin."""
    admin = setting.lab.ca.client("lab-admin", ["system:masters"])
    body = setting.pod("bench", namespace, generate=True)
    return run(
        setting.lab.url, [request(f"/api/v1/namespaces/{namespace}/pods", body)], ca=setting.lab.ca_file,
        folder=setting.lab.folder, in_flight=in_flight, count=count, certificate=(admin.cert, admin.key), pinned=False,
    )  # fmt: skip


def clear(setting: Setting, namespace: str) -> None:
    """Delete every pod of the namespace and wait until they are gone."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    setting.lab.admin.delete(path, query={"gracePeriodSeconds": "0"}, expect=200)
    setting.lab.wait_for(
        lambda: not setting.lab.admin.get(path, query={"limit": "1"}).body["items"],
        what="the pods are gone",
        timeout=60,
    )
