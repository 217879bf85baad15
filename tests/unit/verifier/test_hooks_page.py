"""docs/hooks.md names every identity header wherever a proxy needs a list of them."""

from __future__ import annotations

import re

import pytest

from countersign.verifier.authorize import IDENTITY
from tests.stack.proxies import FILES, PAGE


@pytest.mark.parametrize(
    ("file", "times"),
    [
        ("countersign-identity.conf", 1),
        ("countersign-none.conf", 1),
        ("Caddyfile", 1),
        ("dynamic/app.yaml", 1),
    ],
)
def test_a_list_of_identity_headers_is_whole(file: str, times: int) -> None:
    for name in IDENTITY:
        assert len(re.findall(rf"\b{name}\b(?!-)", FILES[file])) == times, name


def test_where_underscores_come_through_they_are_removed_as_well() -> None:
    for name in IDENTITY:
        assert name.replace("-", "_") in FILES["dynamic/app.yaml"]


def test_the_page_says_what_each_header_is() -> None:
    text = PAGE.read_text()
    for name in IDENTITY:
        assert f"`{name.removeprefix('Countersign')}`" in text or f"`{name}`" in text, name
