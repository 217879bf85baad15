"""`countersign trace` by files alone: joined by UID, grant and token id, in order, with what is missing told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.stack.commandline import countersign
from tests.unit.cli.record.events import DAY, GRANT, JTI, OTHER, UID, access, admitted, audit, minted

GRANT_MADE = audit("12:00:02.1", "create", "workloadgrants", GRANT, who="controller")
USER = {"username": "dev", "extra": {"authentication.kubernetes.io/credential-id": [f"JTI={JTI}"]}}
HISTORY = [
    admitted("12:00:01.5"),
    audit("12:00:01.9", "create", "pods", "api", sub="binding", who="scheduler"),
    GRANT_MADE,
    minted("12:00:03.0"),
    audit("12:01:00.0", "create", "pods", "api", sub="exec", who="eve", requestURI="/x?command=id%1b%5B2J&stdin=true"),
    audit("12:02:00.0", "delete", "pods", "api", code=200),
]
STEPS = [
    "admitted", "bound to a node", "grant made", "token given", "used: active", "exec", "used: not active",
    "deletion asked for",
]  # fmt: skip
USES = [access("12:00:04.0"), access("12:01:00.5", active=False, reason="GrantRevoked")]


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    (tmp_path / "audit.log").write_bytes(b"".join(HISTORY))
    (tmp_path / "access.log").write_bytes(b"".join(USES))
    return [f"--audit-log={tmp_path / 'audit.log'}", f"--log={tmp_path / 'access.log'}"]


def traced(target: str, *options: str) -> Any:
    result = countersign("trace", target, "--offline", "-n", "shop", "-o", "json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def steps(found: Any) -> list[str]:
    return [one["what"] for one in found["timeline"]]


@pytest.mark.parametrize("target", ["api", "shop/api", UID, GRANT, JTI, f"JTI={JTI}"])
def test_by_any_of_its_names_the_whole_history_is_found_in_order(target: str, logs: list[str]) -> None:
    found = traced(target, *logs)
    assert steps(found) == STEPS
    assert (found["pods"], found["podUIDs"]) == (["shop/api"], [UID])
    assert (found["grants"], found["tokens"]) == ([f"shop/{GRANT}"], [JTI])
    who = {one["what"]: one["who"] for one in found["timeline"]}
    assert (who["admitted"], who["token given"], who["exec"]) == ("dev", "system:node:n1", "eve")
    assert who["used: active"] == "ledger/api"


def test_what_stands_before_a_line_in_other_tools_output_is_passed_over(tmp_path: Path, logs: list[str]) -> None:
    first, second = USES
    wrapped = json.dumps({"log": second.decode(), "stream": "stdout", "time": "x"}).encode()
    (tmp_path / "other.log").write_bytes(
        b"[pod/verifier-0/verifier] 2026-03-01T12:00:04Z " + first + b"2026-03-01T12:01:00Z stdout F {}\n" + wrapped
    )
    assert steps(traced(UID, logs[0], f"--log={tmp_path / 'other.log'}")) == STEPS


def test_rotated_and_compressed_files_are_one_log(tmp_path: Path, logs: list[str]) -> None:
    half = len(HISTORY) // 2
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"".join(HISTORY[half:])))
    (tmp_path / "b.log").write_bytes(b"".join(HISTORY[: half + 1]))  # one line in both
    assert steps(traced(UID, f"--audit-log={tmp_path / 'a.gz'}", f"--audit-log={tmp_path / 'b.log'}", logs[1])) == STEPS


def test_a_damaged_file_is_told_and_what_stands_before_the_damage_is_shown(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(HISTORY), mtime=0)
    (tmp_path / "cut.gz").write_bytes(data[: len(data) - 12])
    found = countersign("trace", "api", "--offline", "-n", "shop", f"--audit-log={tmp_path / 'cut.gz'}")
    assert "is damaged" in found.stderr


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path, logs: list[str]) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b'{"auditID": "api", oops\n' + path.read_bytes() + b'{"kind": "api"}\n[1]\n')
    found = traced("api", *logs)
    assert steps(found) == STEPS
    assert found["missing"][-1].endswith("2 lines that mention it could not be read")


def test_what_is_missing_is_said(logs: list[str]) -> None:
    assert any("--audit-log" in one for one in traced(UID, logs[1])["missing"])
    assert any("--log" in one for one in traced(UID, logs[0])["missing"])
    assert any("cluster was not asked" in one for one in traced(UID, *logs)["missing"])


def test_instances_of_one_name_are_listed_to_choose_from_and_kept_apart(tmp_path: Path, logs: list[str]) -> None:
    path = tmp_path / "audit.log"
    later = [
        admitted("13:00:00.0", uid=OTHER),
        audit("13:00:01.0", "create", "pods", "api", sub="attach", who="mallory"),
    ]
    path.write_bytes(path.read_bytes() + b"".join(later))
    several = countersign("trace", "api", "--offline", "-n", "shop", *logs)
    assert several.exit_code == 2
    assert UID in several.stdout
    assert OTHER in several.stdout
    assert steps(traced(UID, *logs)) == STEPS
    assert steps(traced(OTHER, *logs)) == ["admitted", "attach"]


def test_a_refused_request_that_names_the_pod_is_shown_as_a_claim_and_leads_nowhere(
    tmp_path: Path, logs: list[str]
) -> None:
    path = tmp_path / "audit.log"
    forged = [
        minted("12:00:30.0", uid=UID, pod="shop/other", code=403),
        admitted("12:00:31.0", name="other", uid=OTHER),
    ]
    path.write_bytes(path.read_bytes() + b"".join(forged))
    found = traced(UID, *logs)
    assert [one["what"] for one in found["timeline"] if one.get("claimed")] == ["token refused"]
    assert found["pods"] == ["shop/api"]
    assert OTHER not in json.dumps(found)


def test_calls_with_its_token_at_the_api_server_are_uses_of_it(tmp_path: Path, logs: list[str]) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(path.read_bytes() + audit("12:00:05.0", "list", "secrets", user=USER, code=200))
    assert "token used at the API server" in steps(traced(UID, *logs))


def test_what_was_found_out_about_an_instance_stands_in_its_history(tmp_path: Path, logs: list[str]) -> None:
    """An exec leads to the order that it made; drift and misuse to what the controller logged."""
    entered = {
        "connect-0.validate.countersign.dev/entry": "revoked",
        "connect-0.validate.countersign.dev/revocation": f"shop/exec-{UID}",
        "connect-0.validate.countersign.dev/pod-uid": UID,
    }
    (tmp_path / "audit.log").write_bytes(
        b"".join(
            [
                *HISTORY,
                audit("12:01:00.2", "create", "pods", "api", sub="exec", who="eve", annotations=entered),
                audit("12:01:00.1", "create", "revocations", f"exec-{UID}", who="gate"),
            ]
        )
    )
    found = [
        {
            "timestamp": f"{DAY}12:01:01.0Z",
            "event": "drift",
            "pod": "shop/api",
            "pod_uid": UID,
            "message": "app runs B",
        },
        {"timestamp": f"{DAY}12:01:02.0Z", "event": "misuse found", "kind": "OtherAddress", "pod_uid": UID},
    ]
    (tmp_path / "controller.log").write_text("".join(json.dumps(one) + "\n" for one in found))
    told = traced(UID, *logs, f"--log={tmp_path / 'controller.log'}")
    assert {"order: create", "exec", "drift", "misuse found OtherAddress"} <= set(steps(told))


def test_of_a_pod_that_was_refused_the_refusal_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(
        audit(
            "12:00:00.0", "create", "pods", "bad", code=403,
            responseStatus={"code": 403, "message": "ImageUnsigned: container app"},
        )
    )  # fmt: skip
    [only] = traced("bad", f"--audit-log={tmp_path / 'a.log'}")["timeline"]
    assert only["what"] == "admission refused"
    assert "ImageUnsigned" in only["detail"]


def test_nothing_known_is_exit_code_1(logs: list[str]) -> None:
    result = countersign("trace", "nobody", "--offline", "-n", "shop", *logs)
    assert result.exit_code == 1
    assert "nothing is known of shop/nobody" in result.stderr


@pytest.mark.parametrize("arguments", [["api"], ["shop/"]])
def test_a_question_without_a_namespace_or_a_name_is_refused(arguments: list[str]) -> None:
    assert countersign("trace", *arguments, "--offline").exit_code == 2


def test_what_repeats_is_one_line_for_people(tmp_path: Path, logs: list[str]) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(access(f"12:00:{second:02}.0") for second in range(10, 40)))
    result = countersign("trace", UID, "--offline", "-n", "shop", *logs)
    assert result.stdout.count("used: active") == 1
    assert "(30 times, until 2026-03-01T12:00:39Z)" in result.stdout


@pytest.mark.parametrize("how", ["table", "csv", "json"])
def test_nothing_that_a_terminal_obeys_comes_out_whatever_the_logs_hold(
    tmp_path: Path, logs: list[str], how: str
) -> None:
    wild = "\x1b]0;owned\x07\x1b[2J\r\n\u202e[red]\x9b"
    path = tmp_path / "audit.log"
    path.write_bytes(
        path.read_bytes()
        + audit("12:00:20.0", "patch", "pods", "api", who=wild, code=403, responseStatus={"code": 403, "message": wild})
        + audit("12:00:21.0", "create", "pods", "api", sub="exec", requestURI=f"/x?command={wild}", sourceIPs=[wild])
    )
    result = countersign("trace", UID, "--offline", "-n", "shop", "-o", how, *logs)
    assert result.exit_code == 0
    assert "pod change refused" in result.stdout
    assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n"))


def test_the_state_that_was_written_to_a_grant_is_told_though_its_patch_takes_members_away(
    tmp_path: Path, logs: list[str]
) -> None:
    path = tmp_path / "audit.log"
    body = {"status": {"state": "Active", "reason": "Admitted", "message": None, "causedBy": None}}
    written = audit("12:00:02.5", "patch", "workloadgrants", GRANT, sub="status", requestObject=body, code=200)
    path.write_bytes(path.read_bytes() + written)
    assert "grant Active" in steps(traced(UID, *logs))
