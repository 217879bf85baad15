"""Uses of tokens as cases: the rules of an audience, tried before they are in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.cli.policy.suite.use_recording import NotRecordedError, record, with_use
from countersign.cli.policy.suite.uses import recorded_facts
from tests.stack.objects import protected_audience
from tests.unit.access import cases
from tests.unit.access.test_rules import facts
from tests.unit.cli.suite.test_suite import only, outcomes, run

AUDIENCE = "ledger.example.com"
LISTED = {"digestListed": True}
WAIVED = {"checks": ["ImageUnsigned"]}
READ = {"name": "read", "expression": "request.method == 'GET'", "message": "ask the ledger's owners"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite with one audience and no policy."""
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "ledger.yaml").write_text(yaml.safe_dump(protected_audience("ledger", AUDIENCE, allow=[READ])))
    return tmp_path


def use(name: str = "a use", decision: str = "allowed", *, request: Any = None, **more: Any) -> dict[str, Any]:
    expect = {"decision": decision, **more.pop("expect", {})}
    said = {"request": {"method": "GET"} if request is None else request, **more.pop("facts", {})}
    return {"name": name, "audience": AUDIENCE, "facts": said, "expect": expect, **more}


def write(folder: Path, *uses: dict[str, Any], **more: Any) -> Path:
    path = folder / "uses.yaml"
    content = {"apiVersion": "cli.countersign.dev/v1alpha1", "kind": "PolicyTest", **more, "uses": list(uses)}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def ruled(*expressions: str) -> dict[str, Any]:
    rules = [{"name": f"r{number}", "expression": one} for number, one in enumerate(expressions)]
    return {"objects": [protected_audience("other", "other.example.com", allow=rules)], "audience": "other.example.com"}


def test_uses_that_come_out_as_expected_pass_without_any_policy(folder: Path) -> None:
    write(
        folder,
        use("reads", expect={"rule": "read"}),
        use("writes", "refused", request={"method": "POST"}, expect={"message": "read (ask the ledger's owners)"}),
        use("untold", "refused", request={}, expect={"message": "request.method is not known"}),
    )
    result = run(folder, "-o", "json")
    assert result.exit_code == 0, result.output
    assert set(outcomes(result).values()) == {"passed"}


def test_what_did_not_come_out_is_told_with_what_the_rules_came_upon(folder: Path) -> None:
    write(folder, use("writes", request={"method": "POST"}))
    result = run(folder, "-o", "json")
    assert result.exit_code == 1
    [difference] = only(result)["differences"]
    assert (difference["member"], difference["expected"]) == ("decision", ["allowed"])
    assert 'request.method = "POST"' in difference["found"][1]


def test_another_rule_than_expected_is_a_difference(folder: Path) -> None:
    write(folder, use(expect={"rule": "write"}))
    assert only(run(folder, "-o", "json"))["differences"] == [
        {"member": "rule", "expected": ["write"], "found": ["read"]}
    ]


@pytest.mark.parametrize(
    ("expression", "facts", "decision"),
    [
        ("token.audience == 'other.example.com'", {}, "allowed"),
        ("token.expiresAt > request.time", {"token": {"expiresAt": "2026-03-01T12:00:01Z"}}, "allowed"),
        ("request.time == timestamp('2026-03-01T12:00:00Z')", {}, "allowed"),
        ("request.time == timestamp('2026-03-01T12:00:00Z')", {"request": {"time": "2026-03-02T12:00:00Z"}}, "refused"),
        ("grant.evidence.all(e, e.digestListed && e.rule == '')", {"grant": {"evidence": [LISTED]}}, "allowed"),
        ("grant.evidence.all(e, e.issuer == '')", {"grant": {"evidence": [{}] * 129}}, "refused"),
        ("grant.exceptions.exists(e, 'ImageUnsigned' in e.checks)", {"grant": {"exceptions": [WAIVED]}}, "allowed"),
        ("grant.controller.kind == 'Job'", {"grant": {"controller": {"kind": "Job"}}}, "allowed"),
        ("pod.ageSeconds < 60", {"pod": {"ageSeconds": 5}}, "allowed"),
        ("pod.ageSeconds < 60", {}, "refused"),
        ("request.path == '/admin'", {"request": {"path": "/%61dmin?x"}}, "allowed"),
        ("request.path != '/admin'", {"request": {"path": "/x/../admin"}}, "refused"),
        ("request.sourceAddress == '10.0.0.1'", {"request": {"sourceAddress": "::ffff:10.0.0.1"}}, "allowed"),
        ("!has(request.scopes)", {"request": {"scopes": []}}, "allowed"),
        ("'a' in request.scopes", {"request": {"scopes": ["a", "b"]}}, "allowed"),
    ],
)  # fmt: skip
def test_facts_are_read_as_the_verifier_reads_them(folder: Path, expression: str, facts: Any, decision: str) -> None:
    said = {"facts": facts, **ruled(expression), "expect": {"decision": decision}}
    write(folder, {"name": "a use", **said}, now="2026-03-01T12:00:00Z")
    assert outcomes(run(folder, "-o", "json")) == {"a use": "passed"}


def test_a_case_adds_to_the_facts_of_its_file(folder: Path) -> None:
    general = {"grant": {"profile": "Agent", "owner": "a"}, "request": {"method": "GET"}}
    own = ruled("grant.profile == 'Service' && grant.owner == 'a' && request.method == 'GET'")
    write(
        folder,
        {"name": "a use", "facts": {"grant": {"profile": "Service"}}, **own, "expect": {"decision": "allowed"}},
        facts=general,
    )
    assert outcomes(run(folder, "-o", "json")) == {"a use": "passed"}


def test_without_rules_the_grant_decides(folder: Path) -> None:
    write(folder, {**use(request={}), **ruled()})
    assert outcomes(run(folder, "-o", "json")) == {"a use": "passed"}


def test_a_rule_that_cannot_be_read_refuses_every_use_and_is_told(folder: Path) -> None:
    write(folder, {**use(), **ruled("true", "request.metod == 'GET'")})
    [difference] = only(run(folder, "-o", "json"))["differences"]
    assert "not accepted: allow rule r1: request has no member 'metod'" in difference["found"][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audience": "nobody.example.com"}, "none of the files has a ProtectedAudience for 'nobody.example.com'"),
        ({"facts": {"pod": {"labels": {}}}}, "facts.pod.labels: there is no such member"),
        ({"facts": {"pod": {"name": 5}}}, "facts.pod.name: expected a text, found '5'"),
        ({"facts": {"token": {"ageSeconds": True}}}, "facts.token.ageSeconds: expected a whole number"),
        ({"facts": {"token": {"issuedAt": "yesterday"}}}, "facts.token.issuedAt: 'yesterday' is no RFC 3339 time"),
        ({"facts": {"request": {"relyingParty": "a"}}}, "facts.request.relyingParty: expected an object"),
        ({"facts": {"request": {"scopes": "a"}}}, "facts.request.scopes: expected a list"),
        ({"facts": {"request": {"scopes": [1]}}}, "facts.request.scopes[0]: expected a text"),
        ({"facts": {"grant": {"evidence": [{"isuer": "x"}]}}}, "facts.grant.evidence[0].isuer: there are container"),
    ],
)
def test_a_use_that_cannot_be_run_says_where(folder: Path, changes: Any, message: str) -> None:
    write(folder, {**use(), **changes})
    result = run(folder, "-o", "json")
    assert result.exit_code == 2
    assert message in only(result)["message"]


def test_a_file_needs_a_case_or_a_use(folder: Path) -> None:
    write(folder)
    result = run(folder)
    assert result.exit_code == 2
    assert "holds neither cases nor uses" in result.output


def recorded(name: str = "as it was") -> dict[str, Any]:
    known = facts(cases.active())
    return {
        "name": name,
        "audience": AUDIENCE,
        "facts": recorded_facts(known.read),
        "expect": {"decision": "allowed", "rule": "read"},
    }


def test_a_recorded_use_runs_as_it_was_judged(folder: Path) -> None:
    path = folder / "recorded.yaml"
    record(path, recorded())
    record(path, recorded("once more"))
    result = run(folder, "-o", "json")
    assert result.exit_code == 0, result.output
    assert outcomes(result) == {"as it was": "passed", "once more": "passed"}
    first = yaml.safe_load(path.read_text())["uses"][0]["facts"]
    assert first["request"]["path"] == "/v1/accounts"
    assert first["grant"]["evidence"][0]["authority"] == "release"


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n",
        "a: 1",
        "uses:\n- name: x\n  b: c\n",
        "uses:\n- name: x\n\n# what follows\nz: 1\n",
        "uses:\n  - name: x\n    # in between\n    b: c\nz: 1\n",
        "uses:\n",
    ],
)
def test_recording_keeps_all_else_of_a_file(text: str) -> None:
    made = with_use(text, {"name": "new", "expect": {"decision": "allowed"}})
    before, after = yaml.safe_load(text), yaml.safe_load(made)
    uses = (before.pop("uses", None) or []) + [{"name": "new", "expect": {"decision": "allowed"}}]
    assert after == {**before, "uses": uses}
    assert all(line in made.splitlines() for line in text.splitlines() if line.strip())


def test_a_use_is_not_recorded_where_it_would_be_lost(folder: Path) -> None:
    path = folder / "recorded.yaml"
    record(path, recorded())
    with pytest.raises(NotRecordedError, match="already"):
        record(path, recorded())
    with pytest.raises(NotRecordedError, match="is no PolicyTest"):
        record(folder / "policies/ledger.yaml", recorded())
    with pytest.raises(NotRecordedError, match="on one line"):
        with_use("uses: [{name: x}]\n", recorded())
