"""The access log: whatever is in a token or told of its use, a line is one of JSON, bounded, without a credential."""

from __future__ import annotations

import base64
import json
from typing import Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.access.use import use_of
from countersign.verifier.access_log import line_of, shown
from tests.unit.access import cases
from tests.unit.verifier.access_lines import answer, record

LONGEST: Final = 36
"""Characters of a jti: no longer part of a token may appear."""

tokens = st.lists(st.binary(min_size=30, max_size=120), min_size=3, max_size=3).map(
    lambda parts: ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
)


def parts_of(token: str) -> set[str]:
    return {token[start : start + LONGEST + 1] for start in range(len(token) - LONGEST)}


@given(tokens, st.text(max_size=40), st.text(max_size=40), st.sampled_from(["", "?", "%3F", "/", ";"]))
def test_no_part_of_a_token_longer_than_its_id_appears_wherever_a_relying_party_puts_it(
    token: str, before: str, after: str, separator: str
) -> None:
    use = use_of(source_address=token, method=token, path=f"/{before}/{token}{separator}{after}", scope=token)
    made = record(answer(cases.active()), use)
    text = msgspec.json.encode(line_of(made, asker="ledger/api", now=cases.NOW, decision="1")).decode()
    assert not any(part in text for part in parts_of(token))


@given(st.text(), st.text(), st.text(), st.text(), st.text())
def test_any_text_makes_one_line_that_reads_back(jti: str, audience: str, subject: str, path: str, method: str) -> None:
    claims = msgspec.structs.replace(cases.claims(), jti=jti, audiences=(audience,), subject=subject)
    made = msgspec.structs.replace(answer(cases.active()), claims=claims)
    line = line_of(record(made, use_of(path=path, method=method)), asker="a/b", now=cases.NOW, decision="1")
    text = msgspec.json.encode(line).decode()
    assert text.isprintable()
    assert json.loads(text)["reason"] == "Active"


@given(st.text(max_size=3000))
def test_a_path_comes_out_bounded_and_printable(path: str) -> None:
    assert len(shown(path)) <= 512
    assert shown(path).isprintable()
