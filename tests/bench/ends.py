"""From a change to `active: false` at every verifier, for each thing that ends or suspends an identity."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.table import Table

from tests.bench.setting import AUDIENCE, GOVERNED, Setting
from tests.bench.statistics_of import quantiles
from tests.lab.http import HttpClient
from tests.lab.images import PushedImage
from tests.stack import objects
from tests.stack.installation import introspect

TIMES = 20
REPLICAS = 2
LIMIT_SECONDS = 30
PODS = f"/api/v1/namespaces/{GOVERNED}/pods"
ELSEWHERE = "sha256:" + "0" * 64


class Instance(NamedTuple):
    """A pod that runs, whose token every verifier calls active."""

    pod: objects.Object
    token: str

    @property
    def path(self) -> str:
        """Of the pod."""
        return f"{PODS}/{self.pod['metadata']['name']}"


End = Callable[[Setting, Instance], object]


def _order(setting: Setting, target: objects.Object) -> None:
    made: dict[str, Any] = {
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "Revocation",
        "metadata": {"generateName": "bench-", "namespace": GOVERNED},
        "spec": {"target": target, "reason": "measured"},
    }
    answer = setting.countersign.create(made)
    if answer.status != 201:
        raise AssertionError(answer.message)


def _other_image(setting: Setting, one: Instance) -> None:
    patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": setting.image.by_digest}]
    setting.lab.admin.patch(one.path, patch, expect=200)


def _debugged(setting: Setting, one: Instance) -> None:
    debugger = {"name": "debug", "image": setting.image.by_tag}
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    setting.lab.admin.patch(f"{one.path}/ephemeralcontainers", patch, expect=200)


def _drifted(setting: Setting, one: Instance) -> None:
    # Only an image's own id proves drift (docs/instances.md).
    setting.lab.node("bench-1").run(one.pod, image_ids={"app": ELSEWHERE})


def _entered(setting: Setting, one: Instance) -> None:
    # The API server asks the webhooks before it turns to the kubelet, which is not there: the error is the proof.
    setting.lab.admin.post(f"{one.path}/exec?command=true&container=app&stdout=true", None)


CAUSES: dict[str, End] = {
    "completed": lambda setting, one: setting.lab.node("bench-1").finish(one.pod),
    "deleted, without grace": lambda setting, one: setting.lab.admin.delete(
        one.path, body={"gracePeriodSeconds": 0}, expect=200
    ),
    "order about the pod": lambda setting, one: _order(setting, {"pod": {"name": one.pod["metadata"]["name"]}}),
    "another image in place": _other_image,
    "ephemeral container": _debugged,
    "drift": _drifted,
    "exec": _entered,
}


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Each cause, some times over; the clock starts when the request that makes the change is sent."""
    title = f"A change, to `active: false` at each of {REPLICAS} verifiers ({TIMES} times; the request itself included)"
    table = Table(title=title)
    for column in ("", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if not column else "right")
    with replicas(setting) as verifiers:
        for name, end in CAUSES.items():
            say(f"ends: {name}")
            took = [ended(setting, verifiers, instance(setting), end) for _ in range(TIMES)]
            figures = [f"{value:.1f}" for value in quantiles(took)]
            table.add_row(name, *figures)
            say(f"p50, p99, max ms: {', '.join(figures)}")
    return table


@contextmanager
def replicas(setting: Setting) -> Iterator[list[HttpClient]]:
    """A client of each verifier."""
    countersign = setting.countersign
    more = [f"verifier-{number}" for number in range(2, REPLICAS + 1)]
    for key in more:
        countersign.start_service("verifier", key=key, asker_rate="0")
    ca = countersign.ca_file("verifier")
    try:
        yield [
            HttpClient(f"https://127.0.0.1:{countersign.services[key].port}", ca_file=ca) for key in ("verifier", *more)
        ]
    finally:
        for key in more:
            countersign.stop(key)


def instance(setting: Setting, image: PushedImage | None = None) -> Instance:
    """A new one."""
    lab = setting.lab
    made = setting.pod("end", generate=True)
    if image is not None:
        made["spec"]["containers"][0]["image"] = image.by_tag
    node = lab.node("bench-1")
    pod = node.run(lab.admin.post(PODS, made, expect=201).body)
    setting.countersign.grant_of(pod, state="Active", timeout=60)
    return Instance(pod, node.token(pod, AUDIENCE))


def ended(setting: Setting, verifiers: list[HttpClient], one: Instance, end: End) -> float:
    """Milliseconds until the last verifier says inactive."""
    setting.lab.wait_for(
        lambda: all(introspect(verifier, one.token, setting.asker).body.get("active") for verifier in verifiers),
        what="the token of a running pod is active",
    )
    heard: list[float] = []

    def ask(verifier: HttpClient) -> None:
        while introspect(verifier, one.token, setting.asker).body.get("active", True):
            if time.perf_counter() - began > LIMIT_SECONDS:
                return
        heard.append(time.perf_counter())

    threads = [threading.Thread(target=ask, args=(verifier,)) for verifier in verifiers]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    end(setting, one)
    for thread in threads:
        thread.join()
    if len(heard) < len(verifiers):
        raise AssertionError(f"still active after {LIMIT_SECONDS} s")
    return (max(heard) - began) * 1000
