"""`/validate` on TokenRequests: protected audiences go to kubelets, for pods whose grant lists them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from countersign.api import clock
from countersign.api.grant import (
    GrantPod,
    GrantServiceAccount,
    GrantState,
    GrantToken,
    WorkloadGrant,
    WorkloadGrantSpec,
    WorkloadGrantStatus,
)
from countersign.api.meta import ObjectMeta
from countersign.api.pod import Pod
from countersign.cluster.cache import Key
from countersign.gate.answers import Answer
from countersign.gate.claimed import NOTHING, claimed
from countersign.grants.naming import grant_name, refused_name
from countersign.keys.receipt_keys import ReceiptKeys
from tests.unit.gate.workbench import Workbench, pod, receipt_of
from tests.unit.trust import build

TOKENS = (build.token(),)
NODE = {"user": "system:node:n1", "groups": ["system:nodes", "system:authenticated"]}


class Scene:
    """A pod on node n1, admitted by the gate, and a kubelet that asks for its token."""

    def __init__(self, bench: Workbench, live: dict[str, Any]) -> None:
        self.bench = bench
        live["spec"]["nodeName"] = "n1"
        live["status"] = {"phase": "Running"}
        self.live = live
        self.show(live)

    @classmethod
    async def set(cls, mode: str = "Enforce", **policy: Any) -> "Scene":
        bench = Workbench(build.cluster_policy(tokens=TOKENS, **policy), audiences=[build.audience(mode=mode)])
        return cls(bench, await bench.admitted(pod()))

    def show(self, live: dict[str, Any]) -> None:
        self.bench.cluster.pods[build.NAMESPACE, "api-1"] = msgspec.convert(live, Pod)

    @property
    def grant_name(self) -> str:
        return grant_name(claimed(receipt_of(self.live)).nonce)

    def grant(self, state: GrantState | None = "Active", *, name: str = "", pod_uid: str = "pod-1") -> None:
        name = name or self.grant_name
        spec = WorkloadGrantSpec(
            pod=GrantPod(name="api-1", uid=pod_uid, created_at=clock.format_time(self.bench.wall)),
            service_account=GrantServiceAccount(name="worker", uid="sa-1"),
            tokens=(GrantToken(audience=build.AUDIENCE, policy_uid="uid-payments", max_expiration_seconds=600),),
        )
        meta = ObjectMeta(name=name, namespace=build.NAMESPACE, uid="g-1")
        made = WorkloadGrant(metadata=meta, spec=spec, status=WorkloadGrantStatus(state=state, reason="Completed"))
        self.bench.cluster.grants[build.NAMESPACE, name] = made

    async def ask(self, who: Mapping[str, Any] = NODE, **spec: Any) -> Answer:
        request = {
            "metadata": {"name": "worker", "namespace": build.NAMESPACE, "uid": "sa-1"},
            "spec": {
                "audiences": [build.AUDIENCE],
                "expirationSeconds": 600,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "api-1", "uid": "pod-1"},
                **spec,
            },
        }
        dry = {"dryRun": True} if who.get("dry") else {}
        who = {key: value for key, value in who.items() if key != "dry"}
        return await self.bench.validate(
            request,
            kind="TokenRequest",
            resource="serviceaccounts",
            sub="token",
            **who,
            **dry,
        )


async def test_the_kubelet_gets_the_token_of_an_active_grant() -> None:
    scene = await Scene.set()
    scene.grant()
    answer = await scene.ask()
    assert (answer.allowed, answer.reason) == (True, "Granted")
    assert answer.audit == {
        "mint": "allowed",
        "reason": "Granted",
        "audiences": build.AUDIENCE,
        "pod": "payments/api-1",
        "pod-uid": "pod-1",
        "grant": answer.facts["grant"],
    }
    assert str(answer.facts["grant"]).startswith("payments/wg-")


async def test_an_audience_that_nobody_protects_is_none_of_our_business() -> None:
    scene = await Scene.set()
    answer = await scene.ask(audiences=["other.example.com"])
    assert (answer.allowed, answer.reason) == (True, "NotProtected")
    assert scene.bench.cluster.reads == []


async def test_a_person_is_refused_without_a_look_at_the_cluster_and_counted() -> None:
    scene = await Scene.set()
    answer = await scene.ask({"user": "eve", "groups": ["system:authenticated"]})
    assert (answer.allowed, answer.reason, answer.code) == (False, "AskerNotNode", 403)
    assert scene.bench.cluster.reads == []
    assert scene.bench.count("ungranted_token_requests", audience=build.AUDIENCE, refused="true") == 1


async def test_a_dry_run_leaves_no_trace_in_the_count() -> None:
    scene = await Scene.set()
    answer = await scene.ask({"user": "eve", "groups": [], "dry": True})
    assert not answer.allowed
    assert scene.bench.count("ungranted_token_requests", audience=build.AUDIENCE, refused="true") == 0


async def test_in_audit_mode_it_is_let_through_warned_about_and_counted() -> None:
    scene = await Scene.set(mode="Audit")
    answer = await scene.ask({"user": "eve", "groups": []})
    assert answer.allowed
    assert "AskerNotNode" in answer.warnings[0]
    assert answer.audit["mint"] == "would-refuse"
    assert scene.bench.count("ungranted_token_requests", audience=build.AUDIENCE, refused="false") == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"audiences": [build.AUDIENCE, "other"]},
        {"boundObjectRef": None},
        {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "api-1"}},
        {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "api-1", "uid": "another"}},
        {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone", "uid": "pod-1"}},
        {"expirationSeconds": 601},
        {"expirationSeconds": 315_360_000},
    ],
)
async def test_a_request_that_the_grant_does_not_cover_is_refused(spec: dict[str, Any]) -> None:
    scene = await Scene.set()
    scene.grant()
    assert not (await scene.ask(**spec)).allowed


async def test_a_suspended_or_revoked_grant_gives_nothing() -> None:
    scene = await Scene.set()
    for state in ("Suspended", "Revoked"):
        scene.grant(state)
        assert (await scene.ask()).reason == "GrantNotActive"


async def test_another_pods_grant_under_this_pods_receipt_gives_nothing() -> None:
    scene = await Scene.set()
    scene.grant(pod_uid="pod-0")
    assert (await scene.ask()).reason == "GrantMismatch"


async def test_the_record_of_a_refusal_gives_nothing() -> None:
    scene = await Scene.set()
    del scene.live["metadata"]["annotations"]
    scene.show(scene.live)
    scene.grant("Revoked", name=refused_name("pod-1"))
    assert (await scene.ask()).reason == "GrantNotActive"


async def test_a_finished_pod_gets_no_token_though_its_grant_is_not_revoked_yet() -> None:
    scene = await Scene.set()
    scene.grant()
    scene.live["status"]["phase"] = "Succeeded"
    scene.show(scene.live)
    assert (await scene.ask()).reason == "PodEnded"


async def test_a_young_pod_whose_grant_is_still_to_come_is_judged_here() -> None:
    scene = await Scene.set()
    assert (await scene.ask()).reason == "Judged"
    scene.grant(None)
    assert (await scene.ask()).reason == "Judged"


async def test_an_older_pod_without_grant_is_not() -> None:
    scene = await Scene.set()
    scene.bench.wall = scene.bench.wall.replace(minute=2)
    assert (await scene.ask()).reason == "GrantMissing"


async def test_a_young_lookalike_without_receipt_is_refused() -> None:
    scene = await Scene.set()
    del scene.live["metadata"]["annotations"]
    scene.show(scene.live)
    answer = await scene.ask()
    assert (answer.allowed, answer.reason) == (False, "GrantMissing")
    assert "it has none" in answer.message


async def test_a_young_pod_with_a_receipt_that_is_not_its_own_is_refused() -> None:
    scene = await Scene.set()
    scene.live["spec"]["containers"][0]["command"] = ["sh"]
    scene.show(scene.live)
    assert (await scene.ask()).reason == "GrantMissing"


async def test_a_young_pod_that_no_policy_governs_any_more_is_refused() -> None:
    scene = await Scene.set()
    scene.bench.cluster_policies.remove(Key("", "payments"))
    assert (await scene.ask()).reason == "GrantMissing"


async def test_a_grant_is_found_after_its_receipts_key_has_retired() -> None:
    scene = await Scene.set()
    scene.grant()
    scene.bench.verifier.keys = ReceiptKeys(())
    scene.bench.wall = scene.bench.wall.replace(minute=30)
    assert (await scene.ask()).reason == "Granted"


async def test_what_cannot_be_read_is_a_retry_under_enforce_and_let_through_under_audit() -> None:
    for mode, expected in (("Enforce", (False, 503)), ("Audit", (True, 403))):
        scene = await Scene.set(mode=mode)
        scene.bench.cluster.broken = True
        answer = await scene.ask()
        assert (answer.allowed, answer.code) == expected
        assert answer.reason == "GrantUnread"


async def test_while_an_audience_cannot_be_read_unknown_ones_are_a_retry() -> None:
    scene = await Scene.set()
    scene.bench.audiences.reject(Key("", "newer"), "unknown mode")
    answer = await scene.ask(audiences=["other.example.com"])
    assert (answer.allowed, answer.reason, answer.code) == (False, "AudienceUnreadable", 503)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "....", "x." + "A" * 9 + ".y", "x.e30.y", "x.W10.y", "x.\xff.y"])
def test_what_is_no_receipt_names_no_grant(text: str) -> None:
    assert claimed(text) == NOTHING
