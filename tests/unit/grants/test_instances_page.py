from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from countersign.grants.reasons import DriftReport, RevokedReason, SuspendedReason

PAGE = (Path(__file__).parents[3] / "docs" / "instances.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("reason", get_args(RevokedReason))
def test_the_page_tells_of_every_end(reason: str) -> None:
    assert f"`{reason}`" in section("Ends: Revoked")


@pytest.mark.parametrize("reason", get_args(SuspendedReason))
def test_the_page_tells_of_every_suspension(reason: str) -> None:
    assert f"`{reason}`" in section("Suspends")


@pytest.mark.parametrize("reason", get_args(DriftReport))
def test_the_page_tells_of_what_is_only_reported(reason: str) -> None:
    assert f"`{reason}`" in section("Drift")
