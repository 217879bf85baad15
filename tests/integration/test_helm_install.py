"""`helm install` by Helm's own library: one that fails locks nobody out, one that succeeds is as the chart promises."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.lab.http import Answer
from tests.lab.lab import Lab
from tests.render import RELEASE, render
from tests.stack import objects
from tests.stack.commandline import countersign as run_countersign
from tests.stack.helm import HelmInstallation
from tests.stack.objects import Object
from tests.unit.chart.test_chart import EVERYTHING

helm_python = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

UNPULLABLE: Object = {"image": {"repository": "registry.invalid/countersign"}}


@pytest.fixture
def countersign(helm_lab: Lab) -> Iterator[HelmInstallation]:
    """Not installed yet."""
    with HelmInstallation(helm_lab) as made:
        yield made


def pods_are_created_freely(lab: Lab, namespace: str) -> Answer:
    pod = objects.pod("free", namespace, objects.pod_spec(objects.container("docker.io/library/busybox")))
    return lab.admin.post(f"/api/v1/namespaces/{namespace}/pods", pod, query={"dryRun": "All"})


def asks_for_a_token(lab: Lab, namespace: str) -> Answer:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return lab.admin.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", asked)


def test_an_install_whose_pods_never_run_locks_nobody_out(countersign: HelmInstallation, helm_lab: Lab) -> None:
    elsewhere = helm_lab.create_namespace("elsewhere-1")
    countersign.values = UNPULLABLE
    with pytest.raises(helm_python.HelmError, match="not ready"):
        countersign.install(wait="watcher", timeout=5)
    assert not countersign.webhook_configurations()
    # A policy that enforces changes nothing about that: only the controller writes webhook configurations.
    policy = objects.cluster_policy("enforcing", namespaces={}, images=[], tokens=[], mode="Enforce")
    countersign.apply(policy)
    assert pods_are_created_freely(helm_lab, elsewhere).status == 201
    assert asks_for_a_token(helm_lab, elsewhere).status == 201
    namespace = f"/api/v1/namespaces/{elsewhere}"
    assert helm_lab.admin.patch(namespace, {"metadata": {"labels": {"team": "shop"}}}).ok
    assert helm_lab.admin.delete(namespace).ok


def test_an_install_that_fails_and_rolls_back_leaves_nothing(countersign: HelmInstallation, helm_lab: Lab) -> None:
    countersign.values = UNPULLABLE
    with pytest.raises(helm_python.HelmError, match="not ready"):
        countersign.install(wait="watcher", timeout=5, rollback_on_failure=True)
    helm_lab.wait_for(lambda: not countersign.left_behind(), what="nothing is left behind")


def test_before_a_policy_enforces_nothing_fails_closed(countersign: HelmInstallation, helm_lab: Lab) -> None:
    countersign.install()
    countersign.start_all()
    audited = objects.cluster_policy("audited", namespaces={}, images=[], tokens=[], mode="Audit")
    countersign.declare(audited)
    entries = [one for configuration in countersign.webhook_configurations() for one in configuration["webhooks"]]
    assert entries
    assert {one["failurePolicy"] for one in entries} == {"Ignore"}
    countersign.kill("gate")
    assert pods_are_created_freely(helm_lab, helm_lab.create_namespace("elsewhere-2")).status == 201


def test_what_helm_test_runs_under_may_make_each_check_that_it_makes(
    countersign: HelmInstallation, helm_lab: Lab
) -> None:
    countersign.install()
    countersign.start_all()
    (pod,) = [obj for obj in render() if obj["kind"] == "Pod"]
    command, *flags = pod["spec"]["containers"][0]["args"]
    kubeconfig = helm_lab.service_account_kubeconfig(countersign.namespace, pod["spec"]["serviceAccountName"])
    seen = run_countersign(command, *flags, "--output=csv", kubeconfig=kubeconfig)
    assert "unknown" not in seen.stdout, seen.stdout
    # Without a node no replica is ready: the one check that fails here.
    assert seen.exit_code == 1, seen.stdout
    rest = run_countersign(command, *flags, "--skip=deployments", kubeconfig=kubeconfig)
    assert rest.exit_code == 0, rest.stdout + rest.stderr


@pytest.mark.parametrize("exit_code", [0, 1])
def test_helm_test_ends_as_its_pod_ends(countersign: HelmInstallation, helm_lab: Lab, exit_code: int) -> None:
    countersign.install()
    node = helm_lab.node("testing")
    path = f"/api/v1/namespaces/{countersign.namespace}/pods/countersign-test"

    def run() -> None:
        with countersign.helm() as helm:
            helm.test(RELEASE, timeout=60)

    with ThreadPoolExecutor(1) as executor:
        tested = executor.submit(run)
        pod = helm_lab.wait_for(partial(_body, helm_lab, path), what="Helm made the test's pod")
        node.finish(node.run(pod), exit_code=exit_code)
        helm_lab.wait_for(tested.done, what="Helm has seen the end", timeout=60)
    if exit_code:
        assert isinstance(tested.exception(), helm_python.HelmError)
        assert helm_lab.admin.get(path).ok, "it stays, for its log"
        helm_lab.admin.delete(path, expect=200)
    else:
        assert tested.exception() is None
    node.remove(pod)
    assert helm_lab.admin.get(path).status == 404


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_pods_are_admitted_where_pod_security_is_restricted(helm_lab: Lab, values: Object) -> None:
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = helm_lab.create_namespace(f"restricted-{len(values)}", level)
    path = f"/api/v1/namespaces/{namespace}/pods"
    rendered = render({**values, "priorityClass": {"create": False}})
    templates = [obj["spec"]["template"] for obj in rendered if obj["kind"] == "Deployment"]
    templates += [obj for obj in rendered if obj["kind"] == "Pod"]
    assert len(templates) == 4
    for number, template in enumerate(templates):
        spec = {**template["spec"], "serviceAccountName": "default"}
        answer = helm_lab.admin.post(path, objects.pod(f"pod-{number}", namespace, spec), query={"dryRun": "All"})
        assert answer.status == 201, answer.message
    spec["securityContext"] = {}
    refused = helm_lab.admin.post(path, objects.pod("loose", namespace, spec), query={"dryRun": "All"})
    assert refused.status == 403, "or this test could not fail"
    assert "PodSecurity" in refused.message


def test_a_drain_is_not_blocked_by_a_single_replica_or_by_a_pod_that_is_not_ready(
    countersign: HelmInstallation, helm_lab: Lab
) -> None:
    countersign.values = {name: {"replicas": 1} for name in ("gate", "controller", "verifier")}
    countersign.install()
    node = helm_lab.node("drained")
    for service, ready in (("gate", True), ("verifier", False)):
        pod = one_pod(countersign, service)
        budget = f"/apis/policy/v1/namespaces/{countersign.namespace}/poddisruptionbudgets/countersign-{service}"
        node.report(node.bind(pod), "Running" if ready else "Pending")
        helm_lab.wait_for(
            partial(_counted, helm_lab, budget, int(ready)),
            what=f"the budget of the {service} has counted its pod",
        )
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["metadata"]["name"]}}
        path = f"/api/v1/namespaces/{countersign.namespace}/pods/{pod['metadata']['name']}/eviction"
        answer = helm_lab.admin.post(path, eviction)
        node.remove(pod)
        assert answer.status == 201, answer.message


def one_pod(countersign: HelmInstallation, service: str) -> Object:
    """The one Pending pod of a service, as its Deployment made it."""
    (pod,) = countersign.lab.pods(countersign.namespace, f"app.kubernetes.io/component={service}", count=1)
    return dict(pod)


def _counted(lab: Lab, path: str, healthy: int) -> bool:
    status = lab.admin.get(path, expect=200).body.get("status", {})
    seen = [status.get(member) for member in ("observedGeneration", "expectedPods", "currentHealthy")]
    return seen == [1, 1, healthy]


def _body(lab: Lab, path: str) -> Object | None:
    answer = lab.admin.get(path)
    return dict(answer.body) if answer.ok else None


def test_the_public_good_root_is_refreshed_if_a_value_says_so_from_the_first_install_on(
    countersign: HelmInstallation, helm_lab: Lab
) -> None:
    path = "/apis/countersign.dev/v1alpha1/evidenceroots/public-good"
    # Nobody is there: what counts here is the object.
    wanted: Object = {"evidenceRoots": {"publicGood": {"refresh": True, "mirror": "https://192.0.2.1"}}}
    countersign.values = wanted
    countersign.install()
    made = helm_lab.admin.get(path, expect=200).body
    assert made["spec"]["sigstore"]["tuf"]["builtin"] == "PublicGood"
    countersign.upgrade(wanted)
    kept = helm_lab.admin.get(path, expect=200).body
    assert kept["metadata"]["uid"] == made["metadata"]["uid"], "what was fetched is not lost by an upgrade"
    countersign.upgrade({"evidenceRoots": {"publicGood": {"refresh": False}}})
    assert helm_lab.admin.get(path).status == 404
    countersign.upgrade(wanted)
    assert helm_lab.admin.get(path).ok
