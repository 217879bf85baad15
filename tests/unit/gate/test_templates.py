"""Templates: a warning at `kubectl apply`, never a refusal."""

from typing import Any

import pytest

from countersign.api.policy import Binding, ControllerBinding, Requester
from countersign.cluster.cache import Key
from tests.unit.gate.workbench import Workbench, pod
from tests.unit.trust import build


def workload(kind: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "api"}}, "spec": pod()["spec"]}
    spec: dict[str, Any] = {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "api", "uid": "d-1"}, "spec": spec}


KINDS = {
    "Deployment": ("apps", "deployments"),
    "StatefulSet": ("apps", "statefulsets"),
    "DaemonSet": ("apps", "daemonsets"),
    "Job": ("batch", "jobs"),
    "CronJob": ("batch", "cronjobs"),
}


async def advise(bench: Workbench, kind: str = "Deployment", **more: Any) -> Any:
    group, resource = KINDS[kind]
    made = more.pop("workload", None) or workload(kind)
    return await bench.validate(made, kind=kind, group=group, resource=resource, **more)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unsigned_template_is_warned_about_and_admitted(kind: str) -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[build.TAGGED] = build.unsigned()
    answer = await advise(bench, kind)
    assert answer.allowed
    assert answer.patch is None
    [warning] = answer.warnings
    assert warning.startswith("pods of this template would be refused: ImageUnsigned: container api")
    assert len(warning) <= 256
    update = await advise(bench, kind, old=workload(kind))
    assert update.warnings == answer.warnings


async def test_a_good_template_is_not_warned_about() -> None:
    bench = Workbench(build.cluster_policy(tokens=(build.token(),)))
    answer = await advise(bench)
    assert (answer.allowed, answer.warnings, answer.reason) == (True, (), "Admitted")


async def test_what_only_the_pods_own_request_can_tell_is_not_warned_about() -> None:
    bench = Workbench(
        build.cluster_policy(
            binding=Binding(
                requesters=(Requester(kind="User", name="somebody"),),
                controllers=(ControllerBinding(api_group="apps", kind="Deployment", name="api"),),
            )
        )
    )
    assert (await advise(bench)).warnings == ()
    assert "ControllerNotBound" in (await advise(bench, "StatefulSet")).warnings[0]


async def test_evidence_that_is_late_is_no_news() -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[build.TAGGED] = build.unverifiable()
    assert (await advise(bench)).warnings == ()


async def test_warn_mode_warns_without_a_refusal_to_announce() -> None:
    bench = Workbench(build.cluster_policy(mode="Warn"))
    bench.registries.found[build.TAGGED] = build.unsigned()
    assert (await advise(bench)).warnings[0].startswith("ImageUnsigned")


async def test_whatever_goes_wrong_the_object_is_admitted() -> None:
    bench = Workbench(build.cluster_policy())
    assert (await advise(bench, workload={"spec": 7})).allowed
    bench.cluster_policies.reject(Key("", "newer"), "unknown mode")
    assert (await advise(bench)).allowed
    bench = Workbench(build.cluster_policy())
    bench.registries.found = None  # type: ignore[assignment]
    answer = await advise(bench)
    assert (answer.allowed, answer.reason) == (True, "NotJudged")
