"""docs/threat-model.md names tests by file and words: each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "threat-model.md").read_text()
ROWS = [row for row in TEXT.splitlines() if re.match(r"\|.*`(attack|unit|property|integration)/test_\w+\.py`", row)]


def named(row: str) -> list[tuple[str, list[str]]]:
    """The files of a row's last column, each with the words that are said of its tests."""
    cell = row.rstrip("| ").rpartition(" | ")[2]
    parts = [re.findall(r"`([^`]+)`", part) for part in cell.split("; ")]
    return [
        (path, [word for word in words if "/" not in word])
        for path, *words in parts
        for path in [path, *[word for word in words if "/" in word]]
    ]


def test_there_is_a_row_for_each_attack() -> None:
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_test_that_a_row_names_is_there(row: str) -> None:
    for path, words in named(row):
        names = re.findall(r"^(?:async )?def (test_\w+)", (TESTS / path).read_text(), re.MULTILINE)
        for word in words:
            assert any(word in name for name in names), f"{path} has no test with {word}"
