"""The access log: a line for each decision, none of it a credential, and no disk that strangers fill."""

from __future__ import annotations

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from countersign.access.use import use_of
from countersign.verifier.access_log import MAX_SUMS, OTHERS, UNENTITLED_BURST, shown
from countersign.verifier.app import VerifierApp
from countersign.verifier.introspection import Answer
from countersign.verifier.settings import VerifierSettings
from tests.unit.access import cases
from tests.unit.verifier.access_lines import ReadLog, answer, asker, record
from tests.unit.verifier.world import World, asker_token, token

FORM = "application/x-www-form-urlencoded"


def _no_introspector() -> cases.Case:
    return cases.active()._replace(asker=None)


def test_a_decision_has_a_line_with_every_correlation_key() -> None:
    log = ReadLog()
    use = use_of(source_address="10.0.0.7", method="post", path="/v1/entries?secret=1", scope="write")
    log.log(record(answer(cases.active()), use))
    [line] = log.lines()
    decision = line.pop("decision")
    claims = cases.claims()
    assert claims.pod is not None
    assert line == {
        "time": "2026-03-01T12:00:00Z",
        "log": "access",
        "event": "decision",
        "endpoint": "introspect",
        "active": True,
        "reason": "Active",
        "asker": "ledger/api",
        "seconds": 0.00041,
        "jti": claims.jti,
        "audience": cases.AUDIENCE,
        "subject": claims.subject,
        "namespace": claims.namespace,
        "pod": f"{claims.namespace}/{claims.pod.name}",
        "pod_uid": claims.pod.uid,
        "grant": "payments/wg-1",
        "source_address": "10.0.0.7",
        "method": "POST",
        "path": "/v1/entries",
    }
    assert decision


def test_an_inactive_decision_says_why() -> None:
    log = ReadLog()
    log.log(record(answer(cases.active()._replace(pod=None))))
    [line] = log.lines()
    assert (line["active"], line["reason"]) == (False, "PodUnknown")
    assert "is gone" in line["message"]


def test_no_two_lines_bear_one_name() -> None:
    logs = [ReadLog(), ReadLog()]
    for log in logs:
        for _ in range(50):
            log.log(record(answer(cases.active())))
    names = [line["decision"] for log in logs for line in log.lines()]
    assert len(set(names)) == 100


def test_inactive_alone_can_be_asked_for() -> None:
    log = ReadLog(decisions="Inactive")
    log.log(record(answer(cases.active())))
    log.log(record(answer(cases.active()._replace(grant=None))))
    assert [line["reason"] for line in log.lines()] == ["GrantMissing"]


def test_strangers_have_no_line_but_a_sum_however_many_they_are() -> None:
    log = ReadLog()
    for _ in range(10_000):
        log.log(record(answer(cases.active(), known=False)))
    [line] = log.lines()
    assert (line["event"], line["asker"], line["reason"], line["count"]) == ("summary", "", "AskerMissing", 10_000)


def test_who_is_no_introspector_has_a_few_lines_and_then_a_sum() -> None:
    log = ReadLog()
    for _ in range(1000):
        log.log(record(answer(_no_introspector(), asker("eve", "evil"))))
    lines = log.lines()
    assert len(lines) == UNENTITLED_BURST + 1
    assert lines[-1]["event"] == "summary"
    assert (lines[-1]["asker"], lines[-1]["count"]) == ("evil/eve", 1000 - UNENTITLED_BURST)


def test_explain_entitles_nobody_to_lines() -> None:
    log = ReadLog()
    for _ in range(100):
        log.log(record(answer(cases.active(), asker("eve", "evil")), endpoint="explain"))
    assert len(log.lines()) == UNENTITLED_BURST + 1


def test_a_thousand_accounts_without_a_right_to_ask_fill_nothing_and_take_no_line_from_those_who_may() -> None:
    log = ReadLog()
    for number in range(2 * MAX_SUMS):
        for _ in range(10):
            log.log(record(answer(_no_introspector(), asker(f"eve-{number}", "evil"))))
    for _ in range(50):
        log.log(record(answer(cases.active())))
    lines = log.lines()
    assert sum(line["asker"] == "ledger/api" for line in lines) == 50
    assert len(lines) <= 50 + 200 + MAX_SUMS + 1
    assert any(line["asker"] == OTHERS for line in lines)
    told = sum(line["count"] if line["event"] == "summary" else 1 for line in lines)
    assert told == 2 * MAX_SUMS * 10 + 50


def test_one_relying_party_has_so_many_lines_a_second_and_the_rest_is_summed_up() -> None:
    log = ReadLog(rate=10)
    for _ in range(1000):
        log.log(record(answer(cases.active())))
    log.log(record(answer(cases.active(), asker("other"))))
    log.ticks += 10
    log.log.flush()
    log.log(record(answer(cases.active())))
    lines = log.lines()
    assert sum(line["event"] == "decision" and line["asker"] == "ledger/api" for line in lines) == 101
    assert sum(line["asker"] == "ledger/other" for line in lines) == 1
    [summed] = [line for line in lines if line["event"] == "summary"]
    assert (summed["count"], summed["since"]) == (900, "2026-03-01T12:00:00Z")
    assert summed["time"] == "2026-03-01T12:00:10Z"
    assert log.log.figures() == {"written": 102, "summed": 900, "dropped": 0}


def test_a_line_is_bounded_and_holds_nothing_that_a_terminal_obeys() -> None:
    case = cases.active()
    wild = "\x1b]0;x\x07\n\r\u2028\u202e\x9b" + "y" * 1000
    claims = msgspec.structs.replace(case.claims, audiences=(wild,) * 30, subject=wild, jti=wild, namespace=wild)
    made = answer(case)
    log = ReadLog()
    log.log(record(msgspec.structs.replace(made, claims=claims), use_of(path=wild, method=wild)))
    text = log.text()
    assert text.count("\n") == 1
    assert text.strip().isprintable()
    assert len(text) < 8192


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("", ""),
        ("/v1/pods/3f1c2e3a-0000-4000-8000-1234567890ab", "/v1/pods/3f1c2e3a-0000-4000-8000-1234567890ab"),
        ("/download/" + "a" * 64, "/download/aaaaaaaa...(64)"),
        ("/" + "%65" * 20, "/%65%65%6...(60)"),
    ],
)
def test_a_path_without_what_may_be_a_credential(path: str, seen: str) -> None:
    assert shown(path) == seen


def test_what_is_said_of_a_token_that_did_not_verify_stays_out() -> None:
    log = ReadLog()
    log.log(record(Answer("TokenMalformed", "not a JWT: " + "eyJhbGciOi" * 5, asker=asker())))
    [line] = log.lines()
    assert "message" not in line
    assert line["asker"] == "ledger/api"


async def test_no_token_of_a_request_is_in_the_log() -> None:
    world, log = World(rate=1000.0, burst=1000).settle(), ReadLog()
    app = VerifierApp(world.introspection, world.metrics, recorders=[log.log])
    mine, shown_token = asker_token(), token()
    wrong = shown_token[:-4] + "AAAA"
    async with TestClient(TestServer(app.application)) as client:
        for authorization in (f"Bearer {mine}", f"Bearer {wrong}", ""):
            for body in (
                f"token={shown_token}", f"token={wrong}", f"token={mine}",
                f"token={shown_token}&path=/x/{shown_token}&method=GET&source_address={shown_token}",
            ):  # fmt: skip
                headers = {"Content-Type": FORM, "Authorization": authorization}
                for path in ("/introspect", "/explain"):
                    assert (await client.post(path, data=body, headers=headers)).status == 200
    text = log.text()
    assert '"reason":"Active"' in text
    for secret in (mine, shown_token, wrong):
        for part in secret.split("."):
            assert not any(part[start : start + 37] in text for start in range(max(1, len(part) - 36)))


async def test_who_asks_while_nothing_is_fresh_fills_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    world = World(rate=1000.0, burst=1000).settle()
    world.pass_time(16, beating=False)
    async with TestClient(TestServer(world.app.application)) as client:
        for _ in range(50):
            headers = {"Content-Type": FORM}
            assert (await client.post("/introspect", data="token=x", headers=headers)).status == 503
    told = capfd.readouterr()
    assert (told.out + told.err).count("no answer") <= 2


@pytest.mark.parametrize("change", [{"access_log": "Some"}, {"access_log_rate": -1.0}])
def test_settings_that_mean_nothing_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="access log"):
        VerifierSettings(**change)  # type: ignore[arg-type]
