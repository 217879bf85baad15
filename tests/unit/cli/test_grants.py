"""The inventory's line: what is there of uses and misuse, and empty values where nothing was seen."""

from __future__ import annotations

import msgspec

from countersign.api.grant import GrantMisuse, GrantUses
from countersign.cli.pods.grants import row
from tests.unit.access import cases


def test_a_line_says_when_the_tokens_were_last_used_and_how_they_were_misused() -> None:
    made = cases.grant()
    uses = GrantUses(
        last_used_at="2026-03-01T12:00:00Z",
        audiences=(cases.AUDIENCE,),
        refused=2,
        last_refused_at="2026-03-01T12:01:00Z",
    )
    found = GrantMisuse(kind="OtherAddress", audience=cases.AUDIENCE, at="2026-03-01T11:00:00Z", message="seen")
    line = row(msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, uses=uses, misuse=(found,))))
    assert line["lastUsed"] == "2026-03-01T12:00:00Z"
    assert line["uses"] == {"audiences": [cases.AUDIENCE], "refused": 2, "lastRefused": "2026-03-01T12:01:00Z"}
    assert [one["kind"] for one in line["misuse"]] == ["OtherAddress"]


def test_a_grant_that_was_never_used_says_so() -> None:
    line = row(cases.grant())
    assert (line["lastUsed"], line["uses"]["refused"], line["misuse"]) == ("", 0, [])
