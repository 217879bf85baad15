"""`countersign adopt`: pods that run without their identity get it by a restart, within their disruption budgets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import Result

from tests.lab.lab import Lab
from tests.stack import objects
from tests.stack.commandline import countersign as command
from tests.stack.governed import Governed
from tests.stack.objects import Object, collection_path

_TURN_SECONDS = 0.2


class Kubelet(threading.Thread):
    """Runs what is there and removes what is going, in one namespace. Remembers how many pods were missing at once."""

    def __init__(self, governed: Governed, namespace: str) -> None:
        super().__init__(daemon=True)
        self._governed = governed
        self.namespace = namespace
        self._ending = threading.Event()
        self.leaving_at_once = 0

    def run(self) -> None:
        while not self._ending.wait(_TURN_SECONDS):
            pods = self._governed.lab.pods(self.namespace)
            leaving = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
            self.leaving_at_once = max(self.leaving_at_once, len(leaving))
            for pod in leaving:
                self._governed.node.remove(pod)
            for pod in pods:
                if pod not in leaving and pod["status"].get("phase") == "Pending":
                    try:
                        self._governed.node.run(pod)
                    except AssertionError:
                        continue  # it went meanwhile

    def stop(self) -> None:
        self._ending.set()
        self.join()


@pytest.fixture
def old(governed: Governed, namespace_name: str) -> Iterator[Kubelet]:
    """A namespace whose pods, from `populate`, are from before a policy governed it."""
    governed.lab.create_namespace(namespace_name)
    kubelet = Kubelet(governed, namespace_name)
    kubelet.start()
    yield kubelet
    kubelet.stop()
    governed.lab.admin.delete(f"/api/v1/namespaces/{namespace_name}")


@pytest.fixture
def namespace_name(governed: Governed, request: pytest.FixtureRequest) -> str:
    return f"{governed.namespace}-{abs(hash(request.node.name)) % 10**6}"


def populate(governed: Governed, kubelet: Kubelet, *created: Object, pods: int) -> list[Object]:
    """Create, wait until so many pods run, let the policy govern the namespace; the pods, each with its refusal."""
    lab = governed.lab
    for obj in created:
        lab.admin.post(collection_path(obj), obj, expect=201)
    found = lab.wait_for(lambda: running(lab, kubelet.namespace, pods), what=f"{pods} pods run")
    labels = {"metadata": {"labels": {"governed-by": governed.namespace}}}
    lab.admin.patch(f"/api/v1/namespaces/{kubelet.namespace}", labels, expect=200)
    for pod in found:
        governed.countersign.grant_of(pod, state="Revoked")
    governed.countersign.settle()
    return list(found)


def running(lab: Lab, namespace: str, count: int) -> list[Object] | None:
    pods = [pod for pod in lab.pods(namespace) if pod["status"].get("phase") == "Running"]
    return pods if len(pods) == count else None


def spec(governed: Governed, image: str = "") -> Object:
    return objects.pod_spec(objects.container(image or governed.image.by_tag))


def set_of(kind: str, governed: Governed, namespace: str) -> Object:
    """A StatefulSet, or a DaemonSet of the one node."""
    made = objects.deployment(kind.lower(), namespace, spec(governed), replicas=2)
    made["kind"] = kind
    if kind == "DaemonSet":
        del made["spec"]["replicas"]
        made["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": governed.node.name}
    else:
        made["spec"]["serviceName"] = "none"
    return made


def budget(namespace: str, app: str, available: int) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": namespace},
        "spec": {"minAvailable": available, "selector": {"matchLabels": {"app": app}}},
    }


def adopt(governed: Governed, kubelet: Kubelet, *args: str) -> Result:
    return command(
        "adopt", "-n", kubelet.namespace, *args, f"--registry-ca={governed.lab.ca_file}",
        "--allow-address-range=127.0.0.0/8", "-o", "json", kubeconfig=governed.lab.kubeconfig,
    )  # fmt: skip


def rows(result: Result) -> dict[str, Any]:
    return {row["pod"]: row for row in json.loads(result.stdout)}


def names(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def test_each_kind_of_controller_gets_its_pods_anew_one_at_a_time(governed: Governed, old: Kubelet) -> None:
    made = [objects.deployment("api", old.namespace, spec(governed), replicas=2)]
    made += [set_of(kind, governed, old.namespace) for kind in ("StatefulSet", "DaemonSet")]
    before = populate(governed, old, budget(old.namespace, "api", 1), *made, pods=5)

    shown = adopt(governed, old)
    assert shown.exit_code == 1, shown.output
    assert set(rows(shown)) == names(before)
    assert {row["restart"] for row in rows(shown).values()} == {"yes"}
    assert any(row["controller"].startswith("Deployment api / ReplicaSet api-") for row in rows(shown).values())
    assert {pod["metadata"]["uid"] for pod in governed.lab.pods(old.namespace)} == {
        pod["metadata"]["uid"] for pod in before
    }, "nothing is restarted without --yes"

    result = adopt(governed, old, "--yes", "--timeout=60")
    assert result.exit_code == 0, result.output
    assert {row["outcome"] for row in rows(result).values()} == {"restarted, and its replacement has its identity"}
    after = governed.lab.wait_for(lambda: running(governed.lab, old.namespace, 5), what="five pods run again")
    for pod in after:
        governed.countersign.grant_of(pod, state="Active")
    assert old.leaving_at_once == 1
    again = adopt(governed, old, "--yes")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == []


def test_a_budget_is_waited_for(governed: Governed, old: Kubelet) -> None:
    strict = budget(old.namespace, "api", 2)
    before = populate(
        governed, old, strict, objects.deployment("api", old.namespace, spec(governed), replicas=2), pods=2
    )
    late = adopt(governed, old, "--yes", "--timeout=6")
    assert late.exit_code == 3, late.output
    assert "waiting: Cannot evict pod" in late.stderr
    told = sorted(row["outcome"] for row in rows(late).values())
    assert told[0].startswith("not evicted: its PodDisruptionBudget")
    assert told[1].startswith("not tried")
    assert names(governed.lab.pods(old.namespace)) == names(before)

    path = objects.object_path(strict)
    relax = threading.Timer(3, lambda: governed.lab.admin.patch(path, {"spec": {"minAvailable": 1}}, expect=200))
    relax.start()
    result = adopt(governed, old, "--yes", "--timeout=60")
    relax.join()
    assert result.exit_code == 0, result.output
    assert "waiting: Cannot evict pod" in result.stderr


def test_what_nothing_makes_again_is_shown_and_left_alone(governed: Governed, old: Kubelet) -> None:
    bare = objects.pod("bare", old.namespace, spec(governed))
    work = objects.job("work", old.namespace, spec(governed))
    before = populate(governed, old, bare, work, pods=2)
    result = adopt(governed, old, "--yes", "--timeout=5")
    assert result.exit_code == 1, result.output
    assert {row["outcome"] for row in rows(result).values()} == {"not restarted"}
    assert rows(result)["bare"]["why"] == "nothing would make it again: it has no controller"
    assert "it is not known that a Job makes another" in json.dumps(rows(result))
    assert names(governed.lab.pods(old.namespace)) == names(before)


def test_a_pod_whose_next_would_be_refused_is_left_alone(governed: Governed, old: Kubelet) -> None:
    unsigned = objects.deployment("api", old.namespace, spec(governed, governed.unsigned.by_tag))
    before = populate(governed, old, unsigned, pods=1)
    result = adopt(governed, old, "--yes", "--timeout=5")
    assert result.exit_code == 1, result.output
    (row,) = rows(result).values()
    assert (row["restart"], row["outcome"]) == ("no", "not restarted")
    assert row["why"].startswith("the next pod would get none either: ImageUnsigned")
    assert names(governed.lab.pods(old.namespace)) == names(before)


def test_while_admission_is_paused_nothing_is_restarted(governed: Governed, old: Kubelet) -> None:
    populate(governed, old, objects.deployment("api", old.namespace, spec(governed)), pods=1)
    opened = command("pause", "--for=5m", "--reason=test", kubeconfig=governed.lab.kubeconfig)
    assert opened.exit_code == 0, opened.output
    try:
        result = adopt(governed, old, "--yes")
        assert result.exit_code == 2
        assert "admission is paused" in result.stderr
        assert adopt(governed, old).exit_code == 1, "looking is free"
    finally:
        assert command("resume", kubeconfig=governed.lab.kubeconfig).exit_code == 0


def test_one_policy_may_be_asked_for(governed: Governed, old: Kubelet) -> None:
    populate(governed, old, objects.deployment("api", old.namespace, spec(governed)), pods=1)
    assert len(rows(adopt(governed, old, f"--policy={governed.policy['metadata']['name']}"))) == 1
    other = adopt(governed, old, "--policy=another")
    assert (other.exit_code, json.loads(other.stdout)) == (0, [])


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "countersign-system"])
def test_the_clusters_own_namespaces_are_never_touched(governed: Governed, namespace: str) -> None:
    result = command("adopt", "-n", namespace, "--yes", kubeconfig=governed.lab.kubeconfig)
    assert result.exit_code == 2
    assert "none is restarted there" in result.stderr
