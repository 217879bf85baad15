from __future__ import annotations

import msgspec
import pytest

from countersign.cli.pods.workloads import KINDS, find_kind, planned, user
from tests.stack.objects import container, deployment, job, pod, pod_spec

SPEC = pod_spec(container("r.example.com/x"))


def test_a_pod_is_itself_and_nobody_knows_who_makes_it() -> None:
    plan = planned(pod("api", "shop", SPEC, {"app": "api"}), "bank")
    assert (plan.name, plan.pod.metadata.namespace, plan.pod.metadata.labels) == ("api", "bank", {"app": "api"})
    assert (plan.controller, plan.requester) == (None, None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.controller])
def test_a_workload_makes_pods_by_its_controller(kind: object) -> None:
    assert isinstance(kind, tuple)
    obj = deployment("api", "shop", SPEC)
    name, api_version = kind[0], f"{kind[1]}/v1"
    obj |= {"kind": name, "apiVersion": api_version}
    if name == "CronJob":
        obj["spec"] = {"jobTemplate": {"spec": obj["spec"]}}
    plan = planned(obj, "shop")
    assert [one.image for one in plan.pod.spec.containers] == ["r.example.com/x"]
    assert plan.pod.metadata.generate_name == "api-"
    assert plan.controller is not None
    assert (plan.controller.api_group, plan.controller.kind, plan.controller.name) == (kind[1], name, "api")
    assert plan.requester is not None
    assert plan.requester.username == f"system:serviceaccount:kube-system:{kind[4]}"
    assert "system:serviceaccounts:kube-system" in plan.requester.groups


def test_owners_in_a_template_are_not_believed() -> None:
    obj = job("task", "shop", SPEC)
    obj["spec"]["template"]["metadata"]["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "CronJob", "name": "x", "uid": "u", "controller": True}
    ]
    assert planned(obj, "shop").pod.metadata.owner_references == ()


def test_what_makes_no_pods_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ConfigMap .* makes no pods"):
        planned({"apiVersion": "v1", "kind": "ConfigMap"}, "shop")
    with pytest.raises(ValueError, match=r"Deployment \(extensions/v1beta1\)"):
        planned({"apiVersion": "extensions/v1beta1", "kind": "Deployment"}, "shop")


def test_a_wrong_type_is_told_with_its_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.containers"):
        planned(pod("api", "shop", {"containers": {}}), "shop")


@pytest.mark.parametrize(
    ("word", "kind"),
    [("deploy", "Deployment"), ("Pods", "Pod"), ("rs", "ReplicaSet"), ("cronjob", "CronJob"), ("job", "Job")],
)
def test_kinds_are_known_by_the_names_of_kubectl(word: str, kind: str) -> None:
    found = find_kind(word)
    assert found is not None
    assert found.kind == kind


def test_an_unknown_kind_is_none() -> None:
    assert find_kind("configmap") is None


def test_a_user_has_the_groups_of_its_name() -> None:
    assert user("dev", ("team",)).groups == ("team", "system:authenticated")
