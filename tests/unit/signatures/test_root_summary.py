"""What is told of a trusted_root.json: how many, who, and what runs out first."""

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.signatures.roots.summary import MAX_NAMES, RootSummary, summarise

_MEMBERS = [
    "tlogs",
    "ctlogs",
    "certificateAuthorities",
    "timestampAuthorities",
    "baseUrl",
    "publicKey",
    "validFor",
    "start",
    "end",
    "subject",
    "commonName",
    "uri",
    "certChain",
    "certificates",
    "rawBytes",
]
NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTENT = (
    resources.files("sigstore._store") / "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev" / "trusted_root.json"
).read_bytes()


def log(url: str, end: str | None = None, start: str = "2020-01-01T00:00:00Z") -> dict[str, Any]:
    return {"baseUrl": url, "publicKey": {"validFor": {"start": start, **({"end": end} if end else {})}}}


def test_the_public_good_root_is_told() -> None:
    given = json.loads(CONTENT)
    found = summarise(CONTENT, NOW)
    assert found.authorities == len(given["certificateAuthorities"]) + len(given["timestampAuthorities"])
    assert found.logs == len(given["tlogs"]) + len(given["ctlogs"])
    assert "https://rekor.sigstore.dev" in found.names
    assert found.earliest_expiry is not None
    assert found.earliest_expiry > NOW


def test_the_first_that_runs_out_is_one_that_is_valid_now() -> None:
    logs = [
        log("over", "2025-01-01T00:00:00Z"),
        log("first", "2027-01-01T00:00:00Z"),
        log("later", "2028-01-01T00:00:00Z"),
        log("to come", "2026-12-01T00:00:00Z", start="2026-11-01T00:00:00Z"),
        log("for ever"),
    ]
    assert summarise(json.dumps({"tlogs": logs}).encode(), NOW).earliest_expiry == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_certificate_runs_out_by_itself() -> None:
    content = json.loads(CONTENT)
    authority = content["certificateAuthorities"][-1]
    authority["validFor"].pop("end", None)
    found = summarise(json.dumps({"certificateAuthorities": [authority]}).encode(), NOW)
    assert found.earliest_expiry is not None
    assert found.earliest_expiry.year == 2031


def test_names_are_bounded_and_told_once() -> None:
    logs = [log("same"), log("same"), *(log(f"log-{number}" * 100) for number in range(100))]
    names = summarise(json.dumps({"tlogs": logs}).encode(), NOW).names
    assert (names[0], len(names), max(map(len, names))) == ("same", MAX_NAMES, 253)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"tlogs": 1}',
        b'{"certificateAuthorities": [{"certChain": {"certificates": [{"rawBytes": 1}]}}]}',
    ],
)
def test_what_is_of_another_shape_is_told_as_nothing(content: bytes) -> None:
    assert summarise(content, NOW) == RootSummary()


def test_a_certificate_that_cannot_be_read_is_left_out() -> None:
    authority = {
        "subject": {"commonName": "x"},
        "certChain": {"certificates": [{"rawBytes": "AAAA"}, {"rawBytes": "?"}]},
    }
    found = summarise(json.dumps({"certificateAuthorities": [authority]}).encode(), NOW)
    assert found == RootSummary(1, 0, ("x",), None)


@given(
    st.binary(max_size=64)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_MEMBERS), inner, max_size=4),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_it_is_given_it_only_tells(content: bytes) -> None:
    found = summarise(content, NOW)
    assert found.authorities >= 0
    assert len(found.names) <= MAX_NAMES
