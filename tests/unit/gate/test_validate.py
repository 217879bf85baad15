"""`/validate` on pods: the final pod is judged whole, an existing one by what the request changes."""

from typing import Any

import pytest

from countersign.api.meta import ObjectMeta, OwnerReference
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.policy import Binding, ControllerBinding, Requester
from countersign.api.responses import Responses
from countersign.cluster.owners import Owned
from tests.unit.gate.workbench import REQUESTER, Workbench, changed, patched, pod, receipt_of
from tests.unit.trust import build

TOKENS = (build.token(),)
NOW = "2026-03-01T12:00:00Z"


async def test_the_pod_that_mutate_made_is_admitted_without_the_registry() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    final = patched(pod(), await bench.mutate(pod()))
    bench.registries.asked.clear()
    answer = await bench.validate(final)
    assert (answer.allowed, answer.reason) == (True, "Admitted")
    assert bench.registries.asked == []
    assert answer.audit["verdict"] == "allow"
    assert answer.audit["digests"] == f"{build.REPOSITORY}@{build.DIGEST}"
    assert answer.patch is None


async def test_without_a_receipt_the_registry_is_asked() -> None:
    bench = Workbench(build.cluster_policy())
    answer = await bench.validate(pod(build.container(image=build.PINNED)))
    assert answer.allowed
    assert bench.registries.asked == [build.PINNED]


async def test_an_image_that_nobody_pinned_is_refused() -> None:
    bench = Workbench(build.cluster_policy())
    answer = await bench.validate(pod())
    assert not answer.allowed
    assert answer.message.startswith("ImageNotPinned")


@pytest.mark.parametrize(
    "change",
    [
        {"containers": [build.container(image=f"{build.REPOSITORY}@{build.OTHER_DIGEST}")]},
        {"serviceAccountName": "other"},
        {"labels": {"app": "other"}},
    ],
)
async def test_a_receipt_of_another_pod_is_not_believed(change: dict[str, Any]) -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[f"{build.REPOSITORY}@{build.OTHER_DIGEST}"] = build.unsigned(digest=build.OTHER_DIGEST)
    final = changed(patched(pod(), await bench.mutate(pod())), **change)
    bench.registries.asked.clear()
    answer = await bench.validate(final)
    assert bench.registries.asked, "its facts come from the registry"
    assert answer.allowed is ("containers" not in change)


async def test_a_token_pod_that_was_changed_after_its_receipt_is_told_so() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    final = changed(patched(pod(), await bench.mutate(pod())), shareProcessNamespace=False)
    answer = await bench.validate(final)
    assert not answer.allowed
    assert answer.message.startswith("ReceiptTampered")
    assert "reinvocationPolicy" in answer.message


async def test_a_token_pod_changed_after_its_receipt_is_warned_about_where_nothing_is_enforced() -> None:
    bench = Workbench(build.cluster_policy(mode="Warn", tokens=TOKENS))
    final = changed(patched(pod(), await bench.mutate(pod())), shareProcessNamespace=False)
    answer = await bench.validate(final)
    assert answer.allowed
    assert "ReceiptTampered" in answer.warnings[0]


async def test_warn_mode_warns_and_audit_mode_only_records() -> None:
    warn = Workbench(build.cluster_policy(mode="Warn"))
    audit = Workbench(build.cluster_policy(mode="Audit"))
    for bench in (warn, audit):
        bench.registries.found[build.PINNED] = build.unsigned()
    warned = await warn.validate(pod(build.container(image=build.PINNED)))
    recorded = await audit.validate(pod(build.container(image=build.PINNED)))
    assert warned.allowed
    assert warned.warnings[0].startswith("ImageUnsigned")
    assert recorded.allowed
    assert recorded.warnings == ()
    assert "ImageUnsigned" in recorded.audit["findings"]


async def test_the_requester_is_bound() -> None:
    requester = Requester(kind="User", name=REQUESTER)
    bench = Workbench(build.cluster_policy(binding=Binding(requesters=(requester,))))
    assert (await bench.mutate(pod())).allowed
    answer = await bench.mutate(pod(), user="eve")
    assert answer.message.startswith("RequesterNotBound")


def _owned_pod(name: str = "api-5", uid: str = "r-1") -> dict[str, Any]:
    made = pod()
    made["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": True}
    ]
    return made


def _bound_to_deployment() -> Workbench:
    controllers = (ControllerBinding(api_group="apps", kind="Deployment", name="api"),)
    bench = Workbench(build.cluster_policy(binding=Binding(controllers=controllers)))
    owner = OwnerReference(api_version="apps/v1", kind="Deployment", name="api", uid="d-1", controller=True)
    meta = ObjectMeta(name="api-5", uid="r-1", owner_references=(owner,))
    bench.cluster.owners["replicasets", "api-5"] = Owned(metadata=meta)
    bench.cluster.owners["deployments", "api"] = Owned(metadata=ObjectMeta(name="api", uid="d-1"))
    return bench


async def test_the_controller_is_resolved_live_where_a_policy_asks_for_it() -> None:
    bench = _bound_to_deployment()
    assert (await bench.mutate(_owned_pod())).allowed
    assert bench.cluster.reads == ["replicasets api-5", "deployments api"]
    assert (await bench.mutate(_owned_pod(uid="forged"))).message.startswith("ControllerNotBound")
    assert (await bench.mutate(pod())).message.startswith("ControllerNotBound")


async def test_controllers_that_cannot_be_read_just_now_are_a_retry() -> None:
    bench = _bound_to_deployment()
    bench.cluster.broken = True
    answer = await bench.mutate(_owned_pod())
    assert (answer.allowed, answer.code, answer.reason) == (False, 503, "ControllersUnread")


async def test_controllers_are_not_read_where_no_policy_asks() -> None:
    bench = Workbench(build.cluster_policy())
    await bench.mutate(_owned_pod())
    assert bench.cluster.reads == []


# What exists already


async def test_the_receipt_can_be_neither_changed_nor_removed_nor_added() -> None:
    bench = Workbench(build.cluster_policy())
    live = await bench.admitted(pod())
    bare = changed(live, annotations={})
    forged = changed(live, annotations={RECEIPT_ANNOTATION: "forged"})
    for old, new in ((live, bare), (live, forged), (bare, live)):
        answer = await bench.validate(new, old=old)
        assert not answer.allowed
        assert answer.message.startswith("ReceiptTampered")


async def test_another_image_must_be_verified() -> None:
    bench = Workbench(build.cluster_policy())
    live = await bench.admitted(pod())
    other = f"{build.REPOSITORY}@{build.OTHER_DIGEST}"
    new = changed(live, containers=[build.container(image=other)])
    assert (await bench.validate(new, old=live)).allowed
    bench.registries.found[other] = build.unsigned(digest=build.OTHER_DIGEST)
    assert (await bench.validate(new, old=live)).message.startswith("ImageUnsigned")


async def test_a_label_taken_away_first_lets_no_unverified_image_in() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "api"}))
    live = await bench.admitted(pod())
    free = changed(live, labels={"app": "free"})
    assert (await bench.validate(free, old=live)).allowed, "the pod stays what it was admitted as"
    other = f"{build.REPOSITORY}@{build.OTHER_DIGEST}"
    bench.registries.found[other] = build.unsigned(digest=build.OTHER_DIGEST)
    swapped = changed(free, containers=[build.container(image=other)])
    answer = await bench.validate(swapped, old=free)
    assert not answer.allowed
    assert answer.message.startswith("ImageUnsigned")


async def test_label_and_image_changed_at_once_are_judged_by_the_old_label_too() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "api"}))
    old = pod(build.container(image=build.PINNED))
    new = changed(old, labels={"app": "free"}, containers=[build.container(image="evil.example.com/x:1")])
    assert not (await bench.validate(new, old=old)).allowed


async def test_a_label_that_brings_a_failing_pod_under_a_policy_is_refused() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "api"}))
    old = pod(build.container(image=build.PINNED), labels={"app": "free"})
    bench.registries.found[build.PINNED] = build.unsigned()
    answer = await bench.validate(changed(old, labels={"app": "api"}), old=old)
    assert answer.message.startswith("ImageUnsigned")


async def test_a_label_that_brings_a_good_pod_under_a_policy_is_let_through_though_it_gets_no_token() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "api"}, tokens=TOKENS, api_token="Remove"))
    old = pod(build.container(image=build.PINNED), labels={"app": "free"})
    assert (await bench.validate(changed(old, labels={"app": "api"}), old=old)).allowed


async def test_a_pod_from_before_the_policy_may_still_change_its_labels() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    old = pod(build.container(image="evil.example.com/x:1"))
    new = changed(old, labels={"app": "api", "role": "leader"})
    assert (await bench.validate(new, old=old)).allowed


async def test_an_update_that_changes_nothing_of_ours_passes_at_once() -> None:
    bench = Workbench(build.cluster_policy())
    old = pod(build.container(image="evil.example.com/x:1"))
    assert (await bench.validate(changed(old, nodeName="n1"), old=old)).reason == "NothingToJudge"


def _debugged(live: dict[str, Any], **members: Any) -> dict[str, Any]:
    debug = build.container("debug", f"{build.REPOSITORY}-debug@{build.OTHER_DIGEST}", **members)
    return changed(live, ephemeralContainers=[debug])


async def test_an_ephemeral_container_is_denied_where_the_policy_says_so() -> None:
    bench = Workbench(build.cluster_policy(responses=Responses(ephemeral_container="Deny")))
    live = await bench.admitted(pod())
    answer = await bench.validate(_debugged(live), old=live, sub="ephemeralcontainers")
    assert answer.message.startswith("EphemeralContainerDenied")


async def test_an_ephemeral_container_is_let_in_where_the_grant_pays_for_it_if_its_image_is_verified() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    live = await bench.admitted(pod())
    assert (await bench.validate(_debugged(live), old=live, sub="ephemeralcontainers")).allowed
    image = f"{build.REPOSITORY}-debug@{build.OTHER_DIGEST}"
    bench.registries.found[image] = build.unsigned(repository=f"{build.REPOSITORY}-debug", digest=build.OTHER_DIGEST)
    answer = await bench.validate(_debugged(live), old=live, sub="ephemeralcontainers")
    assert answer.message.startswith("ImageUnsigned")


@pytest.mark.parametrize(
    "members",
    [
        {"securityContext": {"privileged": True}},
        {"volumeMounts": [{"name": "countersign-token-ledger", "mountPath": "/t"}]},
    ],
)
async def test_an_ephemeral_container_that_could_read_the_token_is_refused(members: dict[str, Any]) -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    live = await bench.admitted(pod())
    answer = await bench.validate(_debugged(live, **members), old=live, sub="ephemeralcontainers")
    assert not answer.allowed


async def test_what_validate_admits_carries_what_mutate_meant() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    live = await bench.admitted(pod())
    assert receipt_of(live)
