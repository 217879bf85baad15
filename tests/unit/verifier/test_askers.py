from __future__ import annotations

import asyncio
from typing import Any

import pytest

from countersign.access.decision import Asker
from countersign.cluster.errors import TimedOutError
from countersign.cluster.reviews import TokenReviewResult, UserInfo
from countersign.verifier.askers import MAX_IN_FLIGHT_PER_NAMESPACE, CannotTellError, NotAuthenticatedError
from tests.unit.access.cases import pod
from tests.unit.verifier.world import NOW, World, asker_token, sign, token


async def refused(world: World, authorization: str) -> str:
    with pytest.raises(NotAuthenticatedError) as caught:
        await world.askers.authenticate(authorization)
    return caught.value.reason


async def test_a_service_account_that_the_api_server_confirms_is_known() -> None:
    world = World().settle()
    known = await world.askers.authenticate(f"Bearer {asker_token()}")
    assert known.asker == Asker("ledger", "api")
    assert str(known) == "ledger/api"
    assert known.user.username == "system:serviceaccount:ledger:api"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    known = await World().settle().askers.authenticate(f"{scheme} {asker_token()}")
    assert known.asker.name == "api"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic eDp5", asker_token()])
async def test_no_bearer_token_is_no_asker(header: str) -> None:
    assert await refused(World().settle(), header) == "AskerMissing"


async def test_junk_is_refused_without_asking_anybody() -> None:
    world = World().settle()
    forged = asker_token()[:-8] + "AAAAAAAA"
    assert await refused(world, f"Bearer {forged}") == "SignatureInvalid"
    assert await refused(world, "Bearer junk") == "TokenMalformed"
    assert world.reviews == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": ["ledger.example.com"]}, "AskerWrongAudience"),
        ({"aud": ["verifier.countersign.dev", "ledger.example.com"]}, "AskerWrongAudience"),
        ({"exp": int(NOW.timestamp())}, "AskerExpired"),
        ({"nbf": int(NOW.timestamp()) + 11}, "AskerExpired"),
    ],
)
async def test_a_token_for_something_else_is_refused(changes: dict[str, Any], reason: str) -> None:
    world = World().settle()
    assert await refused(world, f"Bearer {asker_token(**changes)}") == reason
    assert world.reviews == []


async def test_the_workloads_own_token_is_no_askers() -> None:
    assert await refused(World().settle(), f"Bearer {token()}") == "AskerWrongAudience"


async def test_what_the_api_server_refuses_is_refused_and_not_asked_again_at_once() -> None:
    world = World().settle()
    world.review = lambda _: TokenReviewResult(error="service account deleted")
    for _ in range(3):
        assert await refused(world, f"Bearer {asker_token()}") == "AskerNotConfirmed"
    assert len(world.reviews) == 1
    world.pass_time(1.1)
    world.review = None
    assert (await world.askers.authenticate(f"Bearer {asker_token()}")).asker.name == "api"


async def test_another_user_than_the_token_names_is_refused() -> None:
    world = World().settle()
    world.review = lambda _: TokenReviewResult(authenticated=True, user=UserInfo(username="system:admin"))
    assert await refused(world, f"Bearer {asker_token()}") == "AskerNotConfirmed"


async def test_a_confirmation_serves_ten_seconds_and_is_renewed_before() -> None:
    world = World().settle()
    authorization = f"Bearer {asker_token()}"
    await world.askers.authenticate(authorization)
    world.pass_time(4)
    await world.askers.authenticate(authorization)
    assert len(world.reviews) == 1
    world.pass_time(2)
    await world.askers.authenticate(authorization)  # still good, and renewed behind its back
    await asyncio.sleep(0.01)
    assert len(world.reviews) == 2
    world.pass_time(6)
    world.review = lambda _: TokenReviewResult()
    await world.askers.authenticate(authorization)
    await asyncio.sleep(0.01)
    assert await refused(world, authorization) == "AskerNotConfirmed"


async def test_an_old_confirmation_does_not_outlive_an_api_server_that_is_silent() -> None:
    world = World().settle()
    authorization = f"Bearer {asker_token()}"
    await world.askers.authenticate(authorization)
    world.pass_time(10)
    world.review_error = TimedOutError("no answer within 2 s")
    with pytest.raises(CannotTellError, match="no answer"):
        await world.askers.authenticate(authorization)


async def test_many_at_once_ask_once() -> None:
    world = World().settle()
    authorization = f"Bearer {asker_token()}"
    await asyncio.gather(*(world.askers.authenticate(authorization) for _ in range(20)))
    assert len(world.reviews) == 1


async def test_a_flood_of_one_namespaces_accounts_leaves_turns_for_others() -> None:
    world = World().settle()
    flood = [f"Bearer {asker_token('eve', f'a{number}')}" for number in range(100)]
    mine = f"Bearer {asker_token()}"
    *said, known = await asyncio.gather(*map(world.askers.authenticate, [*flood, mine]), return_exceptions=True)
    assert sum(isinstance(one, CannotTellError) for one in said) == len(flood) - MAX_IN_FLIGHT_PER_NAMESPACE
    assert getattr(known, "asker", known) == Asker("ledger", "api")
    *_, last = await asyncio.gather(*map(world.askers.authenticate, flood[-1:]), return_exceptions=True)
    assert not isinstance(last, CannotTellError), "what was refused a turn gets one later"


@pytest.mark.parametrize(
    "changes", [{"phase": "Succeeded"}, {"deletion_at": NOW}, {"service_account": "other"}, {"uid": "another"}]
)
async def test_an_askers_pod_that_ended_asks_no_more(changes: dict[str, object]) -> None:
    world = World().settle()
    authorization = f"Bearer {asker_token(pod=('relying', 'relying-uid'))}"
    relying = {"namespace": "ledger", "name": "relying", "uid": "relying-uid", "service_account": "api"}
    world.put_pod(pod(**relying))
    await world.askers.authenticate(authorization)
    world.put_pod(pod(**(relying | changes)))
    assert await refused(world, authorization) == "AskerPodGone"


async def test_an_askers_pod_that_the_watch_has_not_shown_is_looked_up() -> None:
    world = World().settle()
    relying = pod(namespace="ledger", name="relying", uid="relying-uid", service_account="api")
    world.live["ledger", "relying"] = relying
    known = await world.askers.authenticate(f"Bearer {asker_token(pod=('relying', 'relying-uid'))}")
    assert known.asker.namespace == "ledger"


async def test_a_token_signed_by_nobody_with_our_audience_is_refused() -> None:
    world = World().settle()
    assert await refused(world, f"Bearer {sign({'aud': ['verifier.countersign.dev']})}") == "TokenMalformed"
