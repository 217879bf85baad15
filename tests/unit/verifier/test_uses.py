"""What a verifier remembers of uses: of those that count, within bounds, and told in steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, get_args

import msgspec
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from countersign.access.decision import Reason
from countersign.api.verifier_calls import USES_PATH, UsesQuestion, UsesReport
from countersign.cluster.errors import TimedOutError
from countersign.verifier.internal import InternalCalls
from countersign.verifier.uses import MARK_SECONDS, MAX_ADDRESSES, MAX_REPORTED, UNCOUNTED, Uses
from tests.unit.access import cases
from tests.unit.verifier.answers import LEDGER, START, Seen, answered
from tests.unit.verifier.world import World, asker_token, token

BEGIN = START.timestamp()


def test_a_use_is_remembered_with_time_place_and_asker() -> None:
    seen = Seen()
    seen.at(1, answered(address="10.0.0.7"))
    seen.at(5, answered(address="10.0.0.7"))
    seen.at(9, answered("TokenExpired", address="10.0.0.9"))
    found = seen.one()
    assert (found.pod_uid, found.audience, found.active) == ("pod-uid", cases.AUDIENCE, 2)
    assert (found.first_active, found.last_active) == (BEGIN + 1, BEGIN + 5)
    assert (found.refused, found.last_refused, found.last_reason) == ({"TokenExpired": 1}, BEGIN + 9, "TokenExpired")
    assert [(one.address, one.first - BEGIN, one.last - BEGIN, one.asker) for one in found.addresses] == [
        ("10.0.0.7", 1, 5, "ledger/api"),
        ("10.0.0.9", 9, 9, "ledger/api"),
    ]
    assert found.askers == ("ledger/api",)


@pytest.mark.parametrize("reason", sorted(UNCOUNTED))
def test_what_one_without_the_right_to_ask_asks_about_leaves_no_trace(reason: Reason) -> None:
    seen = Seen()
    seen.at(1, answered(reason, address="10.6.6.6", asker=("evil", "x")))
    assert (len(seen.uses), seen.all()) == (0, [])


def test_every_other_reason_of_the_decision_counts() -> None:
    # A reason that is new to the decision, and given before the asker is known to be an introspector, belongs above.
    counted = set(get_args(Reason)) - UNCOUNTED
    seen = Seen()
    for reason in sorted(counted):
        seen.at(1, answered(reason))
    assert seen.one().active == 1
    assert set(seen.one().refused) == counted - {"Active"}


@pytest.mark.parametrize(
    "record",
    [answered(endpoint="explain"), answered(asker=None), answered("TokenMalformed", decided=False)],  # type: ignore[arg-type]
    ids=["explanation", "nobody", "no token of the cluster"],
)
def test_what_is_no_use_of_a_verified_token_does_not_count(record: Any) -> None:
    seen = Seen()
    seen.at(1, record)
    assert seen.all() == []


def test_a_token_without_a_pod_does_not_count() -> None:
    seen = Seen()
    record = answered("TokenNotPodBound")
    claims = cases.claims(pod=None)
    seen.at(1, msgspec.structs.replace(record, answer=msgspec.structs.replace(record.answer, claims=claims)))
    assert seen.all() == []


def test_addresses_are_bounded_and_the_longest_unused_goes() -> None:
    seen = Seen()
    for number in range(MAX_ADDRESSES + 3):
        seen.at(number, answered(address=f"10.0.0.{number}"))
        seen.at(number + 0.5, answered(address="10.0.0.0"))
    found = {one.address for one in seen.one().addresses}
    assert len(found) == MAX_ADDRESSES
    assert {"10.0.0.0", f"10.0.0.{MAX_ADDRESSES + 2}"} <= found


def test_a_flood_of_pods_pushes_out_those_of_its_own_audience() -> None:
    seen = Seen(capacity=10)
    for number in range(4):
        seen.at(number, answered(uid=f"quiet-{number}", audience="quiet.example.com"))
    for number in range(1000):
        seen.at(10 + number, answered(uid=f"loud-{number}", audience="loud.example.com"))
    kept = [one.pod_uid for one in seen.all()]
    assert len(seen.uses) == len(kept) == 10
    assert {f"quiet-{number}" for number in range(4)} < set(kept)
    assert "loud-999" in kept


def test_who_knows_is_told_only_what_has_changed() -> None:
    seen = Seen()
    seen.at(0, answered(uid="a"))
    seen.at(0, answered(uid="b"))
    first = seen.uses.report(UsesQuestion())
    known = {first.verifier: first.cursor}
    assert {one.pod_uid for one in first.uses} == {"a", "b"}
    assert seen.uses.report(UsesQuestion(known=known)).uses == ()
    seen.at(1, answered("PodTerminal", uid="b"))
    again = seen.uses.report(UsesQuestion(known=known))
    assert [one.pod_uid for one in again.uses] == ["b"]
    # An answer that got lost is asked for again; another verifier's cursor means nothing here.
    assert seen.uses.report(UsesQuestion(known=known)) == again
    assert len(seen.uses.report(UsesQuestion(known={"another": 99})).uses) == 2


def test_more_of_the_same_is_told_seldom_and_news_at_once() -> None:
    seen = Seen()
    cursor: dict[str, int] = {}

    def news(seconds: float, record: Any) -> bool:
        seen.at(seconds, record)
        report = seen.uses.report(UsesQuestion(known=cursor))
        cursor[report.verifier] = report.cursor
        return bool(report.uses)

    assert news(0, answered())
    assert not any(news(number / 10, answered()) for number in range(1, 100))
    assert news(11, answered(address="10.0.0.7"))
    assert not news(12, answered(address="10.0.0.7"))
    assert news(13, answered("Revoked"))
    assert not any(news(14 + number / 1000, answered("Revoked")) for number in range(1000))
    assert news(16, answered(asker=("shop", "web")))
    assert news(16 + MARK_SECONDS, answered())


def test_a_long_report_comes_in_pages() -> None:
    seen = Seen()
    for number in range(MAX_REPORTED * 2 + 1):
        seen.at(number / 1000, answered(uid=f"pod-{number}"))
    known: dict[str, int] = {}
    told: list[str] = []
    for more in (True, True, False):
        report = seen.uses.report(UsesQuestion(known=known))
        told += [one.pod_uid for one in report.uses]
        known[report.verifier] = report.cursor
        assert report.more is more
    assert told == [f"pod-{number}" for number in range(MAX_REPORTED * 2 + 1)]


def test_the_last_asker_is_told_last() -> None:
    seen = Seen()
    for asker in (LEDGER, ("shop", "web"), LEDGER):
        seen.at(1, answered(asker=asker))
    assert seen.one().askers == ("shop/web", "ledger/api")


def test_names_are_in_the_order_of_the_starts() -> None:
    assert Seen(0).uses.name < Seen(1).uses.name


# The controller's call

Ask = Callable[..., Awaitable[ClientResponse]]
CONTROLLER = asker_token(cases.SYSTEM, "countersign-controller")


@pytest.fixture
def world() -> World:
    return World().settle()


@pytest.fixture
async def ask(world: World) -> AsyncIterator[Ask]:
    uses = Uses(START)
    uses(answered())
    calls = InternalCalls(world.askers, uses, namespace=cases.SYSTEM, turned_away=world.metrics.turned_away)
    calls.add_to(world.app.application.router)
    async with TestClient(TestServer(world.app.application)) as client:

        async def send(asker: str, body: bytes = b"{}") -> ClientResponse:
            return await client.post(USES_PATH, data=body, headers={"Authorization": f"Bearer {asker}"})

        yield send


async def test_the_controller_is_told(ask: Ask) -> None:
    answer = await ask(CONTROLLER)
    report = msgspec.json.decode(await answer.read(), type=UsesReport)
    assert [one.pod_uid for one in report.uses] == ["pod-uid"]


@pytest.mark.parametrize(
    ("asker", "status"),
    [
        (asker_token(), 403),  # an introspector
        (asker_token("ledger", "countersign-controller"), 403),
        (asker_token(cases.SYSTEM, "countersign-gate"), 403),
        (asker_token(cases.SYSTEM, "countersign-controller", aud=["ledger.example.com"]), 401),
        (token(), 401),
        ("junk", 401),
        ("", 401),
    ],
)
async def test_nobody_else_is(ask: Ask, asker: str, status: int) -> None:
    answer = await ask(asker, b"x" * 100)
    assert (answer.status, await answer.read()) == (status, b"")


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (b"\xff", 400), (b" " * 17_000, 413)])
async def test_what_is_no_question_is_refused(ask: Ask, body: bytes, status: int) -> None:
    assert (await ask(CONTROLLER, body)).status == status


async def test_while_the_api_server_does_not_confirm_there_is_no_answer(ask: Ask, world: World) -> None:
    world.review_error = TimedOutError("no answer")
    assert (await ask(CONTROLLER)).status == 503
