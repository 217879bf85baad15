"""What makes and ends pods in a cluster: its controllers, evictions, the end of a namespace."""

from __future__ import annotations

import pytest

from tests.e2e.scene import PROGRAM, NewScene, Scene
from tests.stack import objects
from tests.stack.objects import Object

NAMESPACE_SECONDS = 40
"""The namespace controller goes through its kinds again until nothing is left; pods take their grace period."""


@pytest.fixture(scope="module")
def minutely(scene: Scene) -> str:
    """A CronJob that is created first and looked at last: its minute goes by under the other tests."""
    template = objects.job("unused", scene.namespace, scene.spec("work", "-for", "1h"))
    template["spec"]["template"]["metadata"]["labels"] = {"app": "minutely"}
    scene.create(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "minutely", "namespace": scene.namespace},
            "spec": {
                "schedule": "* * * * *",
                "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": template["spec"]},
            },
        }
    )
    return "minutely"


@pytest.mark.usefixtures("minutely")
def test_each_pod_of_a_stateful_set_is_an_instance_of_its_own(scene: Scene) -> None:
    scene.create({**_replicated(scene, "StatefulSet", "db"), "spec": {**_template(scene, "db"), "serviceName": "db"}})
    first = scene.pod_of("db")
    token, grant = scene.token(first), scene.grant(first, "Active")
    assert first["metadata"]["name"] == "db-0"
    assert grant["spec"]["controller"]["kind"] == "StatefulSet"
    assert scene.ask(first).active

    scene.cluster.delete(first)
    scene.cluster.gone(first)
    second = scene.pod_of("db")
    assert second["metadata"]["name"] == "db-0"
    assert scene.grant(second, "Active")["metadata"]["name"] != grant["metadata"]["name"]
    assert scene.ask(second).active
    scene.inactive(token)
    scene.grant(first, "Revoked", "Deleted")


def test_a_pod_of_a_daemon_set_has_an_identity(scene: Scene) -> None:
    scene.create({**_replicated(scene, "DaemonSet", "agent"), "spec": _template(scene, "agent")})
    pod = scene.pod_of("agent")
    assert scene.grant(pod, "Active")["spec"]["controller"]["kind"] == "DaemonSet"
    assert scene.ask(pod).active


def test_a_bare_pod_has_an_identity_and_names_no_controller(scene: Scene) -> None:
    pod = scene.start(scene.pod("bare"))
    assert not scene.grant(pod, "Active")["spec"].get("controller")
    assert scene.ask(pod).active


def test_an_evicted_pod_loses_its_identity_and_its_successor_has_another(scene: Scene) -> None:
    scene.create(objects.deployment("moved", scene.namespace, scene.spec()))
    pod = scene.pod_of("moved")
    token = scene.token(pod)
    assert scene.ledger.ask(token).active
    name = pod["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": scene.namespace},
    }
    path = f"/api/v1/namespaces/{scene.namespace}/pods/{name}/eviction"
    scene.cluster.api.post(path, eviction, expect=201)
    scene.cluster.gone(pod)
    scene.inactive(token)
    scene.grant(pod, "Revoked", "Deleted")
    [successor] = scene.cluster.running(scene.namespace, "app=moved")
    scene.grant(successor, "Active")
    assert scene.ask(successor).active


def test_a_pod_that_the_scheduler_preempts_loses_its_identity(scene: Scene) -> None:
    _priority(scene, "e2e-low", -10)
    victim = scene.pod("victim", priorityClassName="e2e-low", terminationGracePeriodSeconds=1)
    victim["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "300m"}}
    victim = scene.start(victim)
    token = scene.token(victim)
    wanted = _free_cpu(scene) + 200
    preemptor = scene.pod("preemptor")
    preemptor["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{wanted}m"}}
    preemptor = scene.create(preemptor)
    scene.cluster.gone(victim)
    scene.inactive(token)
    scene.grant(victim, "Revoked", "Deleted")
    scene.cluster.phase(preemptor, "Running")
    assert scene.ask(preemptor).active
    scene.cluster.delete(preemptor)


def test_a_pod_that_the_kubelet_evicts_loses_its_identity_though_its_object_stays(scene: Scene) -> None:
    container = scene.container()
    container["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    scratch = {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}
    context = {"runAsUser": 65532, "fsGroup": 65532}
    pod = scene.start(scene.pod("hoarder", containers=[container], volumes=[scratch], securityContext=context))
    token = scene.token(pod)
    assert scene.ledger.ask(token).active
    scene.cluster.exec(pod, PROGRAM, "fill", "/scratch/file")
    # The program ends with status 0 when it is told to, and so the kubelet calls even this pod Succeeded.
    scene.cluster.phase(pod, "Succeeded")
    assert any(event.startswith("Evicted: ") for event in scene.cluster.events(scene.namespace, "hoarder"))
    scene.inactive(token)
    scene.grant(pod, "Revoked", "Completed")


def test_a_pod_past_its_deadline_loses_its_identity_though_its_object_stays(scene: Scene) -> None:
    pod = scene.start(scene.pod("overdue", restartPolicy="Never", activeDeadlineSeconds=6))
    token = scene.token(pod)
    assert scene.ledger.ask(token).active
    ended = scene.cluster.phase(pod, "Failed")
    assert ended["status"]["reason"] == "DeadlineExceeded"
    scene.inactive(token)
    scene.grant(pod, "Revoked", "Failed")


def test_a_deleted_namespace_ends_every_identity_in_it_and_is_gone_in_seconds(new_scene: NewScene) -> None:
    doomed = new_scene()
    doomed.create(objects.deployment("api", doomed.namespace, doomed.spec(), replicas=2))
    doomed.create(objects.job("batch", doomed.namespace, doomed.spec("work", "-for", "1h")))
    pods = [*doomed.cluster.running(doomed.namespace, "app=api", 2), doomed.pod_of("batch")]
    pods.append(doomed.start(doomed.pod("bare", "work", "-linger", "2s")))
    tokens = [doomed.token(pod) for pod in pods]
    assert all(doomed.ledger.ask(token).active for token in tokens)
    doomed.cluster.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": doomed.namespace}})
    for token in tokens:
        doomed.inactive(token)
    path = f"/api/v1/namespaces/{doomed.namespace}"
    doomed.cluster.wait(
        lambda: doomed.cluster.get(path) is None, what="the namespace is gone", seconds=NAMESPACE_SECONDS
    )


def test_a_cron_job_s_pod_has_an_identity_until_it_ends(scene: Scene, minutely: str) -> None:
    selector = f"app={minutely}"
    scene.cluster.wait(lambda: scene.cluster.pods(scene.namespace, selector) or None, what="its minute", seconds=70)
    pod = scene.pod_of(minutely)
    token = scene.token(pod)
    assert scene.grant(pod, "Active")["spec"]["controller"]["kind"] == "CronJob"
    assert scene.ledger.ask(token).active
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": minutely, "namespace": scene.namespace}}
    scene.cluster.delete(cron, propagationPolicy="Background")
    scene.inactive(token, seconds=30)
    scene.cluster.gone(pod)


def _replicated(scene: Scene, kind: str, name: str) -> Object:
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": scene.namespace}}


def _template(scene: Scene, name: str) -> Object:
    labels = {"app": name}
    return {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": scene.spec()},
    }


def _priority(scene: Scene, name: str, value: int) -> None:
    meta = {"name": name}
    scene.cluster.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta, "value": value}
    )


def _free_cpu(scene: Scene) -> int:
    """What no pod has requested of the cluster's only node, in thousandths of a CPU."""
    [node] = scene.cluster.items("/api/v1/nodes")
    pods = [pod for pod in scene.cluster.items("/api/v1/pods") if pod["status"]["phase"] in ("Pending", "Running")]
    taken = sum(
        _millis(container.get("resources", {}).get("requests", {}).get("cpu", "0"))
        for pod in pods
        for container in pod["spec"]["containers"]
    )
    return _millis(node["status"]["allocatable"]["cpu"]) - taken


def _millis(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else int(quantity) * 1000
