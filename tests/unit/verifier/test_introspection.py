"""From question to answer over a cluster in the test's hand. The rules are tests/unit/access/test_decision."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from countersign.access.pod_view import PodView
from countersign.api.audience import Introspector, ProtectedAudience
from countersign.api.grant import WorkloadGrant
from countersign.api.meta import ObjectMeta
from countersign.api.revocation import ObjectTarget, Target
from countersign.cluster.cache import Key
from countersign.cluster.errors import ForbiddenError, TimedOutError
from countersign.verifier.freshness import Beat
from countersign.verifier.introspection import Answer, NoAnswerError, OverLimitError
from tests.unit.access import cases
from tests.unit.verifier.world import NOW, World, asker_token, payload, rsa_key, sign, token

ASKER = f"Bearer {asker_token()}"
STRANGER = f"Bearer {asker_token('evil', 'x')}"


async def ask(world: World, text: str | None = None, asker: str = ASKER) -> Answer:
    return await world.introspection.introspect(asker, token() if text is None else text)


async def test_the_active_case_is_active() -> None:
    answer = await ask(World().settle())
    assert (answer.active, answer.reason, answer.grant) == (True, "Active", "payments/wg-1")


async def test_a_stranger_triggers_no_lookup_and_no_waiting() -> None:
    world = World(grant_wait=60).settle()
    world.pods.remove(Key("payments", "api-7d9c"))
    answer = await asyncio.wait_for(ask(world, asker=STRANGER), 1)
    assert (answer.active, answer.reason) == (False, "AskerNotIntrospector")
    assert world.reads == []


async def test_nothing_is_done_with_a_token_that_a_nobody_asks_about() -> None:
    world = World().settle()
    answer = await ask(world, sign(payload(), key=rsa_key(), headers={"kid": "unknown"}), asker="Bearer junk")
    assert not answer.active
    assert world.keys.asked == []


async def test_a_pod_that_the_watch_has_not_shown_is_looked_up() -> None:
    world = World().settle()
    world.pods.remove(Key("payments", "api-7d9c"))
    world.live["payments", "api-7d9c"] = cases.pod()
    assert (await ask(world)).active
    assert world.reads == [("payments", "api-7d9c")]


async def test_a_pod_that_is_gone_is_looked_up_once_a_second() -> None:
    world = World().settle()
    world.pods.remove(Key("payments", "api-7d9c"))
    for _ in range(3):
        assert (await ask(world)).reason == "PodUnknown"
    assert len(world.reads) == 1
    world.pass_time(1.1)
    await ask(world)
    assert len(world.reads) == 2


async def test_many_questions_about_one_unknown_pod_look_it_up_once() -> None:
    world = World().settle()
    world.pods.remove(Key("payments", "api-7d9c"))
    world.live["payments", "api-7d9c"] = cases.pod()
    answers = await asyncio.gather(*(ask(world) for _ in range(20)))
    assert all(answer.active for answer in answers)
    assert len(world.reads) == 1


async def test_another_pod_of_the_same_name_is_not_the_one() -> None:
    world = World().settle()
    world.pods.remove(Key("payments", "api-7d9c"))
    world.live["payments", "api-7d9c"] = cases.pod(uid="another")
    assert (await ask(world)).reason == "PodUnknown"


async def test_a_pod_that_cannot_be_looked_up_is_unknown_and_so_inactive() -> None:
    world = World().settle()
    world.pods.remove(Key("payments", "api-7d9c"))
    world.read_error = TimedOutError("no answer within 2 s")
    assert (await ask(world)).reason == "PodUnknown"
    world.read_error = None
    world.live["payments", "api-7d9c"] = cases.pod()
    assert (await ask(world)).active  # what could not be told is not remembered


async def young(world: World) -> tuple[PodView, str]:
    pod = cases.pod(created_at=NOW)
    world.put_pod(pod)
    world.grants.remove(Key("payments", "wg-1"))
    issued = int(NOW.timestamp())
    return pod, token(iat=issued, nbf=issued, exp=issued + 600)


async def test_the_answer_about_a_pod_just_born_waits_for_its_grant() -> None:
    world = World(grant_wait=60).settle()
    _, text = await young(world)
    asked = asyncio.create_task(ask(world, text))
    await asyncio.sleep(0.02)
    world.put_grant(cases.grant(None))
    await asyncio.sleep(0.02)
    assert not asked.done()
    world.put_grant(cases.grant())
    assert (await asyncio.wait_for(asked, 30)).active


async def test_the_wait_ends_with_a_grant_that_says_no() -> None:
    world = World(grant_wait=60).settle()
    _, text = await young(world)
    asked = asyncio.create_task(ask(world, text))
    await asyncio.sleep(0.02)
    world.put_grant(cases.grant("Revoked"))
    assert (await asyncio.wait_for(asked, 30)).reason == "GrantRevoked"


async def test_the_wait_ends() -> None:
    world = World(grant_wait=0.05).settle()
    _, text = await young(world)
    assert (await asyncio.wait_for(ask(world, text), 30)).reason == "GrantMissing"


async def test_nobody_waits_for_the_grant_of_an_old_pod() -> None:
    world = World(grant_wait=60).settle()
    world.grants.remove(Key("payments", "wg-1"))
    assert (await asyncio.wait_for(ask(world), 30)).reason == "GrantMissing"


async def test_what_grew_old_while_waiting_is_not_answered_from() -> None:
    world = World(grant_wait=0.05).settle()
    _, text = await young(world)
    asked = asyncio.create_task(ask(world, text))
    await asyncio.sleep(0.01)
    world.pass_time(16, beating=False)
    with pytest.raises(NoAnswerError, match="Lease"):
        await asked


async def test_a_terminal_phase_once_seen_stays() -> None:
    world = World().settle()
    world.put_pod(cases.pod(phase="Succeeded"))
    world.put_pod(cases.pod(phase="Running"))
    assert (await ask(world)).reason == "PodTerminal"


async def test_of_two_grants_for_one_pod_the_one_that_is_not_active_counts() -> None:
    world = World().settle()
    second = cases.grant("Revoked")
    meta = msgspec.structs.replace(second.metadata, name="wg-2", uid="grant-2")
    world.put_grant(WorkloadGrant(metadata=meta, spec=second.spec, status=second.status))
    assert (await ask(world)).reason == "GrantRevoked"


async def test_of_two_audiences_of_one_name_the_accepted_one_counts() -> None:
    world = World().settle()
    rival = cases.audience(accepted="False")
    spec = msgspec.structs.replace(rival.spec, introspectors=(Introspector(namespace="evil", name="x"),))
    world.put_audience(ProtectedAudience(metadata=ObjectMeta(name="a-rival"), spec=spec, status=rival.status))
    assert (await ask(world)).active
    assert (await ask(world, asker=STRANGER)).reason == "AskerNotIntrospector"


async def test_a_revocation_counts_from_the_moment_it_is_seen() -> None:
    world = World().settle()
    assert (await ask(world)).active
    target = Target(pod=ObjectTarget(namespace="payments", name="api-7d9c"))
    world.put_revocation(cases.revocation(target))
    assert (await ask(world)).reason == "Revoked"
    world.revocations.remove(Key(cases.SYSTEM, "leak-42"))
    assert (await ask(world)).active


async def test_a_revocation_that_cannot_be_read_reaches_whatever_it_might() -> None:
    world = World().settle()
    world.revocations.reject(Key("elsewhere", "odd"), "unknown member")
    assert (await ask(world)).active
    world.revocations.reject(Key("payments", "odd"), "unknown member")
    assert (await ask(world)).reason == "Revoked"


async def test_an_identity_ends_with_its_exception_to_the_second_whatever_the_controller_does() -> None:
    world = World().settle()
    grant, exception = cases.resting(1)
    world.put_exception(exception)
    world.put_grant(grant)
    answer = await ask(world)
    assert answer.decision is not None
    assert answer.decision.members is not None
    assert [one.name for one in answer.decision.members.workload.exceptions] == ["legacy"]
    world.pass_time(59)
    assert (await ask(world)).active
    world.pass_time(1)
    assert (await ask(world)).reason == "ExceptionEnded"


async def test_an_exception_counts_only_as_long_as_it_is_there_as_it_was() -> None:
    world = World().settle()
    grant, exception = cases.resting()
    world.put_grant(grant)
    assert (await ask(world)).reason == "ExceptionEnded"  # not seen yet: unknown is inactive
    world.put_exception(exception)
    assert (await ask(world)).active
    world.put_exception(cases.resting(0)[1])
    assert (await ask(world)).reason == "ExceptionEnded"
    world.put_exception(exception)
    assert (await ask(world)).active
    world.exceptions.reject(Key("", "legacy"), "unknown member")
    assert (await ask(world)).reason == "ExceptionEnded"


async def test_what_an_exception_withholds_tokens_for_rests_not_on_it() -> None:
    world = World().settle()
    world.put_grant(cases.resting(tokens="Withhold")[0])
    answer = await ask(world)
    assert answer.active
    assert answer.decision is not None
    assert answer.decision.members is not None
    assert answer.decision.members.workload.exceptions == ()


async def test_orders_are_weighed_anew_when_the_grant_or_the_pod_changes() -> None:
    world = World().settle()
    world.put_revocation(cases.revocation(Target(digest="sha256:" + "00" * 32)))
    assert (await ask(world)).active
    image = msgspec.structs.replace(cases.grant().spec.images[0], runtime_digests=("sha256:" + "00" * 32,))
    world.put_grant(cases.grant(images=(image,)))
    assert (await ask(world)).reason == "Revoked"


@pytest.mark.parametrize("name", ["pods", "workloadgrants", "revocations", "trustexceptions", "protectedaudiences"])
async def test_a_watch_that_fell_silent_is_503(name: str) -> None:
    world = World().settle()
    world.pass_time(121)
    assert (await ask(world)).active
    world.streams[name].last_activity = world.ticks - 121
    with pytest.raises(NoAnswerError, match=name):
        await ask(world)


async def test_a_watch_that_never_listed_is_503() -> None:
    world = World().settle()
    world.grants.synced.clear()
    with pytest.raises(NoAnswerError, match="workloadgrants"):
        await ask(world)


async def test_a_heartbeat_that_stands_still_is_503() -> None:
    world = World().settle()
    world.pass_time(15, beating=False)
    assert (await ask(world)).active
    world.pass_time(0.1, beating=False)
    with pytest.raises(NoAnswerError, match="Lease"):
        await ask(world)
    world.beat()
    assert (await ask(world)).active


async def test_a_lease_that_went_back_in_time_is_503_until_the_process_ends() -> None:
    world = World().settle()
    assert (await ask(world)).active
    key = Key(cases.SYSTEM, "countersign-controller")
    for revision in (900, 700, 1000):
        world.lease.put(key, "lease", f"r{revision}", Beat("holder", f"r{revision}", revision))
    with pytest.raises(NoAnswerError, match="restored"):
        await ask(world)


async def test_a_lease_that_exists_but_was_never_seen_to_move_is_503() -> None:
    world = World()
    for stream in world.streams.values():
        stream.synced.set()
        stream.touch()
    world.beat()
    with pytest.raises(NoAnswerError, match="ever"):
        await ask(world)


async def test_a_lease_that_was_given_back_does_not_beat() -> None:
    world = World().settle()
    world.pass_time(14, beating=False)
    world.beat(holder="")
    world.pass_time(2, beating=False)
    with pytest.raises(NoAnswerError, match="Lease"):
        await ask(world)


async def test_keys_that_grew_old_are_503() -> None:
    world = World().settle()
    world.keys_age = 301
    with pytest.raises(NoAnswerError, match="keys"):
        await ask(world)


async def test_an_asker_that_the_api_server_cannot_tell_is_503() -> None:
    world = World().settle()
    world.review_error = TimedOutError("no answer within 2 s")
    with pytest.raises(NoAnswerError, match="who asks"):
        await ask(world)


async def test_an_asker_over_its_share_gets_429_and_nobody_else_does() -> None:
    world = World(rate=1.0, burst=2).settle()
    assert (await ask(world)).active
    assert (await ask(world)).active
    with pytest.raises(OverLimitError) as caught:
        await ask(world)
    assert 0 < caught.value.retry_after <= 1
    assert not (await ask(world, asker=STRANGER)).active
    world.pass_time(1)
    assert (await ask(world)).active


async def test_the_reason_is_told_to_one_who_may_read_grants_there() -> None:
    world = World().settle()
    world.put_pod(cases.pod(phase="Failed"))
    answer = await world.introspection.explain(STRANGER, token())
    assert (answer.may_know, answer.reason) == (False, "ExplainNotAllowed")
    world.may_explain = True
    answer = await world.introspection.explain(STRANGER, token())
    assert (answer.may_know, answer.active, answer.reason) == (True, False, "PodTerminal")


async def test_the_reason_says_so_where_nobody_may_ask() -> None:
    world = World(may_explain=True).settle()
    spec = msgspec.structs.replace(cases.audience().spec, introspectors=())
    world.put_audience(msgspec.structs.replace(cases.audience(), spec=spec))
    assert (await world.introspection.explain(STRANGER, token())).reason == "AskerNotIntrospector"


async def test_a_nobody_is_told_no_reason() -> None:
    world = World(may_explain=True).settle()
    assert not (await world.introspection.explain("Bearer junk", token())).may_know


async def test_what_the_api_server_cannot_say_is_no_permission() -> None:
    world = World().settle()
    world.explain_error = ForbiddenError(403, "Forbidden", "no")
    with pytest.raises(NoAnswerError):
        await world.introspection.explain(ASKER, token())
