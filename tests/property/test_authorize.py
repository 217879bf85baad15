"""The hook for proxies: whatever comes is understood or refused, and an upstream's header is one line of ASCII."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from countersign.access.use import MAX_PATH, Use
from countersign.verifier.authorize import AmbiguousError, header_value, question

NAMES = (
    *("Authorization", "Countersign-Asker", "Countersign-Require-Audience", "X-Original-Method", "X-Original-URI"),
    *("X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-For", "X-Real-IP"),
)
TEXT = st.text(st.characters(exclude_characters="\r\n")) | st.sampled_from(["/a/../b", "192.0.2.1", "Bearer x", "POST"])


def told(method: str, target: str, headers: list[tuple[str, str]]) -> Use | None:
    try:
        return question(method, target, CIMultiDict(headers)).use
    except AmbiguousError:
        return None


@given(st.text(), TEXT.map(lambda text: f"/authorize{text}"), st.lists(st.tuples(st.sampled_from(NAMES), TEXT)))
def test_any_request_is_understood_or_refused(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    use = told(method, target, headers)
    if use is not None:
        assert use.path in {"", "*"} or use.path.startswith("/")
        assert len(use.path) <= MAX_PATH
        assert ".." not in use.path.split("/")


@given(st.text())
def test_a_header_says_every_text_in_printable_ascii(text: str) -> None:
    try:
        value = header_value(text)
    except UnicodeEncodeError:  # a lone surrogate: no such text comes out of JSON
        return
    assert value
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert unquote(value) == text or (text, value) == ("", "-")


@given(st.sampled_from(["X-Original-URI", "X-Forwarded-Uri"]), st.sampled_from(["/public", "/admin"]))
def test_a_client_that_adds_a_header_changes_nothing_but_to_be_refused(name: str, forged: str) -> None:
    # A proxy sets one of the two names, its client the other one.
    other = {"X-Original-URI": "X-Forwarded-Uri", "X-Forwarded-Uri": "X-Original-URI"}[name]
    use = told("GET", "/authorize", [(name, "/admin"), (other, forged)])
    assert use is None or use.path == "/admin"
