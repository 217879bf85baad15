"""Exec, attach and port-forward at the gate: what is on record before anybody is let in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from countersign.api import clock
from countersign.api.grant import GrantState
from countersign.api.meta import ObjectMeta
from countersign.api.names import RECEIPT_ANNOTATION
from countersign.api.responses import Responses
from countersign.api.revocation import ObjectTarget, Revocation, RevocationSpec, Target
from countersign.cluster.cache import Key
from countersign.cluster.errors import ForbiddenError, TimedOutError
from countersign.gate.answers import Answer
from tests.unit.gate.test_tokens import Scene as TokenScene
from tests.unit.gate.workbench import Workbench, changed, pod, receipt_of
from tests.unit.trust import build

TOKENS = (build.token(containers=("api",)),)
EXEC = "exec-pod-1"


class Scene(TokenScene):
    """The same pod, and a person who goes into it."""

    @classmethod
    async def meeting(cls, *policies: Any, **response: Any) -> Scene:
        """`response` is what the one policy says, where none are given."""
        given = policies or (build.cluster_policy(tokens=TOKENS, responses=Responses(**response)),)
        bench = Workbench(*given)
        return cls(bench, await bench.admitted(pod()))

    async def enter(self, sub: str = "exec", name: str = "api-1", **options: Any) -> Answer:
        more = {"dryRun": True} if options.pop("dry", False) else {}
        given = {"container": "api", "command": ["sh", "-c", "echo hunter2"], **options} if sub == "exec" else options
        asked = {"metadata": {"name": name}, **given}
        return await self.bench.validate(
            asked,
            sub=sub,
            operation="CONNECT",
            user="eve",
            kind="PodExecOptions",
            **more,
        )

    @property
    def orders(self) -> dict[str, Revocation]:
        return {name: made for (_, name), made in self.bench.cluster.revocations.items()}


def order(called: str, **target: Any) -> Revocation:
    """One that somebody else made."""
    return Revocation(
        metadata=ObjectMeta(name=called, namespace=build.NAMESPACE, uid=f"uid-{called}"),
        spec=RevocationSpec(target=Target(pod=ObjectTarget(**target)), reason="mine"),
    )


@pytest.mark.parametrize("sub", ["exec", "attach", "portforward"])
async def test_the_identity_ends_before_anybody_is_let_in(sub: str) -> None:
    scene = await Scene.meeting()
    scene.grant()
    answer = await scene.enter(sub)
    assert (answer.allowed, answer.reason) == (True, "IdentityEnded")
    (made,) = scene.orders.values()
    assert made.metadata.name == EXEC
    assert made.spec.target == Target(pod=ObjectTarget(name="api-1", uid="pod-1"))
    assert made.spec.requested_by == scene.bench.cluster.me
    (owner,) = made.metadata.owner_references
    assert (owner.kind, owner.uid, owner.controller) == ("Pod", "pod-1", False)
    assert EXEC in answer.warnings[0]
    assert answer.audit["revocation"] == f"{build.NAMESPACE}/{EXEC}"


async def test_the_record_says_who_did_what_and_never_an_argument() -> None:
    scene = await Scene.meeting()
    answer = await scene.enter(command=["sh", "-c", "curl -H 'Authorization: hunter2'"])
    assert scene.orders[EXEC].spec.reason == "entered: exec sh in container api by eve"
    assert "hunter2" not in repr(answer)


async def test_a_grant_that_is_still_to_come_is_ended_too() -> None:
    scene = await Scene.meeting()
    assert (await scene.enter()).reason == "IdentityEnded"
    assert EXEC in scene.orders


async def test_a_young_pod_that_was_gone_into_gets_no_token_while_its_grant_is_to_come() -> None:
    scene = await Scene.meeting()
    assert (await scene.ask()).reason == "Judged"
    await scene.enter()
    scene.bench.revocations.put(Key(build.NAMESPACE, EXEC), "uid-1", "1", scene.orders[EXEC])
    assert (await scene.ask()).reason == "GrantMissing"


@pytest.mark.parametrize("state", ["Active", "Suspended", None])
async def test_what_is_not_final_may_come_back_and_is_ended(state: GrantState | None) -> None:
    scene = await Scene.meeting()
    scene.grant(state)
    await scene.enter()
    assert EXEC in scene.orders


async def test_an_identity_that_is_over_is_not_ended_again() -> None:
    scene = await Scene.meeting()
    scene.grant("Revoked")
    assert (await scene.enter()).reason == "IdentityOver"
    assert scene.orders == {}


async def test_a_grant_of_another_instance_spares_nobody() -> None:
    scene = await Scene.meeting()
    scene.grant("Revoked", pod_uid="pod-0")
    assert (await scene.enter()).reason == "IdentityEnded"


async def test_an_order_that_the_gate_knows_is_enough() -> None:
    scene = await Scene.meeting()
    scene.grant()
    known = order("by-hand", name="api-1")
    scene.bench.revocations.put(Key(build.NAMESPACE, "by-hand"), "uid-1", "1", known)
    assert (await scene.enter()).reason == "IdentityOver"
    assert scene.orders == {}


async def test_the_second_who_goes_in_needs_no_second_order() -> None:
    scene = await Scene.meeting()
    scene.grant()
    await scene.enter()
    assert (await scene.enter("attach")).allowed
    assert set(scene.orders) == {EXEC}


@pytest.mark.parametrize(
    "harmless",
    [
        order(EXEC, name="other"),
        order(EXEC, name="api-1", uid="pod-0"),
        order(EXEC, name="api-1", namespace="elsewhere"),
    ],
)
async def test_a_harmless_order_in_its_place_does_not_stand_in_for_it(harmless: Revocation) -> None:
    scene = await Scene.meeting()
    scene.grant()
    scene.bench.cluster.revocations[build.NAMESPACE, EXEC] = harmless
    answer = await scene.enter()
    assert (answer.allowed, answer.reason) == (True, "IdentityEnded")
    (other,) = set(scene.orders) - {EXEC}
    assert other.startswith(f"{EXEC}-")
    assert scene.orders[other].spec.target == Target(pod=ObjectTarget(name="api-1", uid="pod-1"))


@pytest.mark.parametrize("error", [ForbiddenError(403, "Forbidden", "no"), TimedOutError("no answer")])
async def test_what_cannot_be_recorded_is_refused(error: Exception) -> None:
    scene = await Scene.meeting()
    scene.grant()
    scene.bench.cluster.refuses = error
    answer = await scene.enter()
    assert (answer.allowed, answer.code, answer.reason) == (False, 503, "EntryUnrecorded")


async def test_a_write_whose_answer_was_lost_counts_if_it_is_there() -> None:
    scene = await Scene.meeting()
    scene.grant()
    scene.bench.cluster.refuses = TimedOutError("no answer")
    scene.bench.cluster.stores_all_the_same = True
    assert (await scene.enter()).reason == "IdentityEnded"


async def test_a_pod_that_cannot_be_read_is_not_gone_into() -> None:
    scene = await Scene.meeting()
    scene.bench.cluster.broken = True
    assert (await scene.enter()).code == 503


async def test_what_the_api_server_will_refuse_anyway_ends_nothing() -> None:
    scene = await Scene.meeting()
    scene.grant()
    assert (await scene.enter(container="typo")).reason == "NothingToEnter"
    assert (await scene.enter(name="nobody")).code == 404
    scene.show(changed(scene.live, nodeName=""))
    assert (await scene.enter()).reason == "NothingToEnter"
    scene.show({**scene.live, "status": {"phase": "Succeeded"}})
    assert (await scene.enter()).reason == "NothingToEnter"
    assert scene.orders == {}


async def test_a_debug_container_can_be_attached_to_at_the_same_price() -> None:
    scene = await Scene.meeting(ephemeral_container="Report")
    scene.grant()
    scene.show(changed(scene.live, ephemeralContainers=[build.container("debug")]))
    assert (await scene.enter("attach", container="debug")).reason == "IdentityEnded"


async def test_a_dry_run_leaves_no_trace() -> None:
    scene = await Scene.meeting()
    scene.grant()
    assert (await scene.enter(dry=True)).allowed
    assert scene.orders == {}


# Policies


async def test_allow_lets_in_and_ends_nothing() -> None:
    scene = await Scene.meeting(exec="Allow")
    scene.grant()
    assert (await scene.enter()).reason == "EntryAllowed"
    assert scene.orders == {}


async def test_deny_names_policy_user_and_a_way_out() -> None:
    scene = await Scene.meeting(exec="Deny")
    scene.grant()
    answer = await scene.enter()
    assert (answer.allowed, answer.code, answer.reason) == (False, 403, "EntryDenied")
    for word in (
        "ClusterTrustPolicy payments",
        "by eve",
        f"{build.NAMESPACE}/api-1",
        "kubectl debug api-1",
        "--copy-to",
    ):
        assert word in answer.message
    assert "hunter2" not in answer.message
    assert scene.orders == {}


@pytest.mark.parametrize("mode", ["Audit", "Warn"])
async def test_a_deny_that_does_not_enforce_ends_the_identity_instead(mode: str) -> None:
    scene = await Scene.meeting(build.cluster_policy(mode=mode, tokens=TOKENS, responses=Responses(exec="Deny")))
    scene.grant()
    answer = await scene.enter()
    assert (answer.allowed, answer.reason) == (True, "IdentityEnded")
    assert any("would refuse exec" in one for one in answer.warnings)


@pytest.mark.parametrize("mode", ["Audit", "Warn", "Enforce"])
async def test_revoke_revokes_in_every_mode(mode: str) -> None:
    scene = await Scene.meeting(build.cluster_policy(mode=mode, tokens=TOKENS))
    scene.grant()
    await scene.enter()
    assert EXEC in scene.orders


async def test_the_strictest_of_the_policies_decides() -> None:
    lax = build.cluster_policy("lax", tokens=TOKENS, responses=Responses(exec="Allow"))
    scene = await Scene.meeting(lax, build.cluster_policy("base"))
    scene.grant()
    assert (await scene.enter()).reason == "IdentityEnded"


@pytest.mark.parametrize("signature", ["", "x"])
async def test_a_label_taken_away_after_admission_changes_nothing_whatever_became_of_the_key(signature: str) -> None:
    deny = build.cluster_policy(pods={"app": "api"}, tokens=TOKENS, responses=Responses(exec="Deny"))
    scene = await Scene.meeting(deny)
    receipt = receipt_of(scene.live) + signature
    scene.show(changed(scene.live, labels={"app": "other"}, annotations={RECEIPT_ANNOTATION: receipt}))
    assert (await scene.enter()).reason == "EntryDenied"


async def test_a_pod_without_a_token_has_nothing_to_lose() -> None:
    scene = await Scene.meeting(build.cluster_policy())
    assert (await scene.enter()).reason == "NoIdentity"
    assert scene.orders == {}


async def test_a_pod_that_nothing_governs_is_nobodys_business() -> None:
    scene = await Scene.meeting(build.cluster_policy(pods={"app": "api"}, tokens=TOKENS))
    stranger = changed(scene.live, labels={"app": "other"}, annotations={})
    scene.show(stranger)
    assert (await scene.enter()).reason == "NotGoverned"


# A pause


async def test_a_pause_lets_in_what_deny_refuses_and_the_identity_ends_all_the_same() -> None:
    scene = await Scene.meeting(exec="Deny")
    scene.grant()
    now = scene.bench.wall
    scene.bench.pause(
        build.pause(created=clock.format_time(now), expires=clock.format_time(now + timedelta(minutes=5)))
    )
    assert (await scene.enter()).reason == "IdentityEnded"
    assert EXEC in scene.orders
