"""WWW-Authenticate as registries write it, and as they should not."""

import time

import pytest

from countersign.registry.challenge import MAX_CHALLENGES, parse_challenges


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([""], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/token",service="a, b",scope="repository:x:pull,push"'],
            [("bearer", {"realm": "https://a/token", "service": "a, b", "scope": "repository:x:pull,push"})],
        ),
        (['BEARER Realm = "a\\"b" , Service=plain'], [("bearer", {"realm": 'a"b', "service": "plain"})]),
        (['Basic realm="x", Bearer realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (['Basic realm="x"', 'Bearer realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (['Bearer realm="first",realm="second"'], [("bearer", {"realm": "first"})]),
        (['realm="orphan"'], []),
        (['Bearer realm=""'], [("bearer", {"realm": ""})]),
        (['Bearer realm="open'], [("bearer", {}), ("realm", {})]),
    ],
)
def test_challenges_are_read(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(challenge.scheme, challenge.parameters) for challenge in parse_challenges(headers)] == expected


def test_no_more_challenges_are_read_than_anybody_sends() -> None:
    assert len(parse_challenges(["Basic, " * 1000])) == MAX_CHALLENGES


@pytest.mark.parametrize(
    "text", ['a="' + "\\" * 8000, '"' * 8000, "a=" * 4000, "a " * 4000, " ," * 4000, 'a="x",' * 1300]
)
def test_reading_takes_linear_time(text: str) -> None:
    started = time.process_time()
    parse_challenges([text] * 10)
    assert time.process_time() - started < 1
