"""Globs against a naive matcher."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from countersign.trust.images.globs import Glob

_SEGMENT = st.text("ab*", min_size=1, max_size=6)
_GLOBS = st.builds(
    lambda segments, rest: "/".join(segments) + rest,
    st.lists(_SEGMENT, min_size=1, max_size=4),
    st.sampled_from(["", "/**"]),
)
_NAMES = st.lists(st.text("ab", min_size=1, max_size=8), min_size=1, max_size=5).map("/".join)


def by_regex(glob: str, name: str) -> bool:
    body = glob.removesuffix("/**") if "/" in glob else glob
    rest = "(?:/[^/]+)+" if body != glob else ""
    pattern = "/".join("[^/]*".join(map(re.escape, re.sub(r"\*+", "*", part).split("*"))) for part in body.split("/"))
    return re.fullmatch(pattern + rest, name) is not None


@given(_GLOBS, _NAMES)
def test_a_glob_means_what_its_regular_expression_means(glob: str, name: str) -> None:
    assert Glob(glob).matches(name) is by_regex(glob, name)


@given(_NAMES)
def test_a_name_matches_itself_and_what_it_is_the_folder_of(name: str) -> None:
    assert Glob(name).matches(name)
    assert not Glob(name + "/**").matches(name)
    assert Glob(name + "/**").matches(name + "/x")
    assert not Glob(name).matches(name + "/x")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_answered(glob: str, name: str) -> None:
    assert Glob(glob).matches(name) in (True, False)
