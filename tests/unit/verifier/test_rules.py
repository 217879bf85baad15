"""An audience's rules in the verifier: at each use, for each state of the audience, and nobody is held up by them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from countersign.access.use import UNTOLD, Use, use_of
from countersign.api.audience import AllowRule, ProtectedAudience
from countersign.cluster.cache import Key
from countersign.trust.allow.rules import Compiled, compiled
from countersign.verifier import rules as rulebook
from countersign.verifier.introspection import Answer
from tests.unit.access import cases
from tests.unit.verifier.world import World, asker_token, token

ASKER = f"Bearer {asker_token()}"
GET = use_of(method="GET", path="/v1/accounts")
POST = use_of(method="POST", path="/v1/accounts")


def ruled(*expressions: str, **spec: Any) -> ProtectedAudience:
    made = cases.audience()
    rules = tuple(AllowRule(name=f"r{number}", expression=one) for number, one in enumerate(expressions))
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, allow=rules, **spec))


def world(*expressions: str) -> World:
    made = World().settle()
    made.put_audience(ruled(*expressions))
    return made


async def ask(of: World, use: Use = UNTOLD) -> Answer:
    return await of.introspection.introspect(ASKER, token(), use)


async def test_each_use_is_weighed_on_its_own() -> None:
    of = world("request.method == 'GET'")
    assert (await ask(of, GET)).active
    assert (await ask(of, POST)).reason == "NotAllowed"
    assert (await ask(of)).reason == "NotAllowed"
    assert (await ask(of, GET)).active


async def test_a_change_of_the_rules_holds_for_the_next_use() -> None:
    of = world("request.method == 'GET'")
    assert (await ask(of, GET)).active
    of.put_audience(ruled("request.method == 'POST'"))
    assert not (await ask(of, GET)).active
    of.put_audience(ruled())
    assert (await ask(of, GET)).active


async def test_rules_are_compiled_once_for_each_state_of_the_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counting(rules: tuple[AllowRule, ...]) -> Compiled:
        made.append(rules)
        return compiled(rules)

    monkeypatch.setattr(rulebook, "compiled", counting)
    of = world("request.method == 'GET'")
    for _ in range(5):
        await ask(of, GET)
    of.put_audience(ruled("request.method == 'GET'"))  # as after a write of its status
    await ask(of, GET)
    assert len(made) == 1
    of.put_audience(ruled("request.method != 'GET'"))
    await ask(of, GET)
    assert len(made) == 2


async def test_memory_for_compiled_rules_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook, "MAX_KEPT", 2)
    book = rulebook.Rulebook()
    decision = cases.active().decide()
    for number in range(5):
        audience = ruled("true")
        meta = msgspec.structs.replace(audience.metadata, uid=f"u{number}")
        book.weigh(decision, msgspec.structs.replace(audience, metadata=meta), lambda _: None, explain=False)
    assert list(book._kept) == ["u3", "u4"]


async def test_a_rule_that_cannot_be_read_shuts_the_audience_before_the_controller_says_so() -> None:
    answer = await ask(world("true", "nonsense("), GET)
    assert (answer.active, answer.reason) == (False, "AudienceNotAccepted")
    assert "allow rule r1: it is no CEL" in answer.message


async def test_what_a_stranger_asks_is_never_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    def weigh(*_: Any, **__: Any) -> None:
        raise AssertionError("weighed")

    monkeypatch.setattr(rulebook, "weigh", weigh)
    of = world("true")
    answer = await of.introspection.introspect(f"Bearer {asker_token('web', 'front')}", token(), GET)
    assert answer.reason == "AskerNotIntrospector"


async def test_rules_may_tell_relying_parties_apart() -> None:
    of = World().settle()
    introspectors = (
        *cases.audience().spec.introspectors,
        msgspec.structs.replace(cases.audience().spec.introspectors[0], name="reports"),
    )
    of.put_audience(ruled("request.relyingParty.name == 'reports'", introspectors=introspectors))
    assert (await ask(of)).reason == "NotAllowed"
    answer = await of.introspection.introspect(f"Bearer {asker_token('ledger', 'reports')}", token())
    assert answer.active


async def test_explain_says_what_each_rule_came_upon_and_introspect_does_not() -> None:
    of = world("request.method == 'GET' && request.path == '/'")
    of.may_explain = True
    told = await of.introspection.explain(ASKER, token(), GET)
    assert told.reason == "NotAllowed"
    assert 'r0: request.path = "/v1/accounts"' in told.message
    assert "request.path" not in (await ask(of, GET)).message


async def test_a_grant_that_is_waited_for_is_weighed_by_the_rules_too() -> None:
    of = world("grant.owner == 'payments@example.com' && request.method == 'GET'")
    of.put_pod(cases.pod(created_at=cases.NOW))
    of.grants.remove(Key("payments", "wg-1"))
    issued = int(cases.NOW.timestamp())
    text = token(iat=issued, nbf=issued, exp=issued + 600)
    asked = [asyncio.create_task(of.introspection.introspect(ASKER, text, use)) for use in (GET, POST)]
    await asyncio.sleep(0.02)
    of.put_grant(cases.grant())
    assert [(await one).reason for one in asked] == ["Active", "NotAllowed"]
