"""The commands of docs/bad-days.md where pods really run: break-glass, adoption, a leaked receipt key.

What takes all of Countersign away, or gives it another epoch, is in test_worst_days.py; a lost node in
test_lost_node.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from typer.testing import Result

from countersign.api.names import RECEIPT_ANNOTATION
from countersign.keys.receipts import key_id_of
from tests.e2e.cluster import is_ready
from tests.e2e.scene import PROGRAM, TOKEN_FILE, Scene
from tests.stack import objects
from tests.stack.commandline import countersign
from tests.stack.objects import Object

PAUSE_SECONDS = 20
"""Enough to create three objects on a busy machine; what they make may come to run later."""
REPLICAS = 3
AVAILABLE = 2
WATCH_SECONDS = 0.1


class Pause:
    """A pause of admission, and what was created while it lasted."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._began = time.monotonic()
        done = command(scene, "pause", f"--for={PAUSE_SECONDS}s", "--reason=the registry is down", "-o", "json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert not told["openedByHand"]
        self.name = str(told["name"])
        unsigned = scene.spec(image=scene.unsigned.by_tag)
        self.lone = scene.create(scene.pod("lone"))
        scene.create(objects.deployment("urgent", scene.namespace, unsigned))
        scene.create(objects.deployment("api", scene.namespace, scene.spec(), replicas=REPLICAS))
        self.urgent = scene.pod_of("urgent")
        self.api = scene.cluster.running(scene.namespace, "app=api", REPLICAS)
        scene.cluster.phase(self.lone, "Running")

    def over(self) -> None:
        """Let its time go by, until the webhooks fail closed again."""
        self.scene.cluster.pause(max(0.0, self._began + PAUSE_SECONDS - time.monotonic()))
        release = self.scene.release
        self.scene.cluster.wait(lambda: release.failure_policies() == {"Fail"}, what="the webhooks fail closed")


@pytest.fixture(scope="module")
def pause(scene: Scene) -> Iterator[Pause]:
    """Its author was refused before."""
    assert "ImageUnsigned" in scene.denial(scene.pod("before", image=scene.unsigned.by_tag))
    yield Pause(scene)
    command(scene, "resume")


def test_during_a_pause_an_unsigned_image_runs_and_has_no_identity(scene: Scene, pause: Pause) -> None:
    for pod in (pause.urgent, pause.lone, *pause.api):
        assert RECEIPT_ANNOTATION not in pod["metadata"].get("annotations", {})
        missing = scene.cluster.try_kubectl(
            "exec", pod["metadata"]["name"], "-n", scene.namespace, "--", PROGRAM, "cat", TOKEN_FILE
        )
        assert "no such file" in missing.stderr, missing
        answer = scene.ask(pod)
        assert not answer.active
        assert str(answer.body).startswith("no token"), answer
        assert not scene.grant(pod, "Revoked", "ReceiptMissing")["spec"].get("tokens")
    assert scene.cluster.logs(pause.urgent).startswith("working")


def test_the_door_is_shut_again_by_itself(scene: Scene, pause: Pause) -> None:
    pause.over()
    after = scene.pod("after", image=scene.unsigned.by_tag)
    # Each gate goes by its own clock.
    scene.cluster.wait(lambda: "ImageUnsigned" in scene.refusal(after), what="the gates refuse", seconds=10)
    # The Deployment from the pause goes on with the pod that it has, and gets no other.
    assert scene.cluster.pod(scene.namespace, pause.urgent["metadata"]["name"])["status"]["phase"] == "Running"
    scene.cluster.delete(pause.urgent)
    owner = pause.urgent["metadata"]["ownerReferences"][0]["name"]

    def told() -> bool:
        events = scene.cluster.events(scene.namespace, owner)
        return any(one.startswith("FailedCreate") and "ImageUnsigned" in one for one in events)

    scene.cluster.wait(told, what="the ReplicaSet is refused, and told why")
    scene.cluster.delete(objects.deployment("urgent", scene.namespace, {}))


def test_what_came_in_meanwhile_is_adopted_within_its_budget(scene: Scene, pause: Pause) -> None:
    pause.over()
    scene.create(budget(scene, "api"))
    shown = adopt(scene)
    assert shown.exit_code == 1, shown.output
    assert {name: row["restart"] for name, row in rows(shown).items() if not name.startswith("urgent")} == {
        "lone": "no",
        **{pod["metadata"]["name"]: "yes" for pod in pause.api},
    }

    began = time.monotonic()
    lowest = REPLICAS
    with ThreadPoolExecutor(1) as background:
        running = background.submit(adopt, scene, "--yes")
        while not running.done():
            lowest = min(lowest, ready(scene, "api"))
            scene.cluster.pause(WATCH_SECONDS)
        done = running.result()
    print(f"\n{REPLICAS} pods adopted in {time.monotonic() - began:.1f} s, never fewer than {lowest} Ready")
    assert lowest >= AVAILABLE

    table = rows(done)
    assert done.exit_code == 1, f"the bare pod still has none: {done.output}"
    assert all("its replacement has its identity" in table[pod["metadata"]["name"]]["outcome"] for pod in pause.api)
    assert table["lone"]["outcome"] == "not restarted"
    assert "nothing would make it again" in table["lone"]["why"]
    before = {pod["metadata"]["uid"] for pod in pause.api}
    adopted = scene.cluster.running(scene.namespace, "app=api", REPLICAS)
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in adopted)
    for pod in adopted:
        scene.grant(pod, "Active")
        assert scene.ask(pod).active
    assert scene.cluster.pod(scene.namespace, "lone")["metadata"]["uid"] == pause.lone["metadata"]["uid"]


def test_a_leaked_receipt_key_costs_the_pods_that_rest_on_it_their_identity_until_it_is_restored(scene: Scene) -> None:
    old = scene.start(scene.pod("old"))
    token, leaked = scene.token(old), key_of(old)
    assert scene.ledger.ask(token).active
    keys = json.loads(command(scene, "receipt-key", "list", "-o", "json").stdout)
    assert next(one["state"] for one in keys if one["id"] == leaked) == "signing"

    began = time.monotonic()
    revoked = command(scene, "receipt-key", "revoke", leaked, "--reason=found in a backup", "--yes")
    assert revoked.exit_code == 0, revoked.output
    scene.inactive(token)
    print(f"\ninactive {time.monotonic() - began:.1f} s after the order was begun")
    assert scene.ask(old).status == 403
    scene.grant(old, "Suspended", "ReceiptKeyRevoked")

    fresh = scene.start(scene.pod("fresh"))
    assert key_of(fresh) != leaked
    assert scene.ask(fresh).active

    began = time.monotonic()
    restored = command(scene, "receipt-key", "restore", leaked)
    assert restored.exit_code == 0, restored.output
    scene.cluster.wait(lambda: scene.ledger.ask(token).active, what="the token is active again", seconds=10)
    print(f"active again {time.monotonic() - began:.1f} s after it was taken back")
    scene.grant(old, "Active", "QualifiesAgain")
    assert scene.ask(fresh).active


def command(scene: Scene, *args: str) -> Result:
    """The command line as the admin of the cluster."""
    return countersign(*args, kubeconfig=scene.cluster.kubeconfig)


def adopt(scene: Scene, *more: str) -> Result:
    """`countersign adopt` of this namespace, as JSON."""
    reach = [f"--registry-ca={scene.store.ca_file}"] if scene.store.ca_file else []
    if scene.store.scheme == "http":
        reach.append(f"--insecure-registry={scene.store.host}")
    return command(scene, "adopt", "-n", scene.namespace, *reach, "-o", "json", *more)


def rows(result: Result) -> dict[str, Any]:
    """What it shows, by pod."""
    return {row["pod"]: row for row in json.loads(result.stdout)}


def budget(scene: Scene, app: str) -> Object:
    """A PodDisruptionBudget that spares AVAILABLE pods."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": scene.namespace},
        "spec": {"minAvailable": AVAILABLE, "selector": {"matchLabels": {"app": app}}},
    }


def ready(scene: Scene, app: str) -> int:
    """Pods that are Ready and not on their way out, as a disruption budget counts them."""
    pods = scene.cluster.pods(scene.namespace, f"app={app}")
    return sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)


def key_of(pod: Object) -> str:
    """The key that signed its receipt."""
    return key_id_of(pod["metadata"]["annotations"][RECEIPT_ANNOTATION])
