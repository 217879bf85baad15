"""Lines of a stream, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.cluster.errors import MalformedAnswerError
from countersign.cluster.lines import LineSplitter


@given(st.lists(st.binary(max_size=50).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.data())
def test_the_lines_do_not_depend_on_where_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    splitter = LineSplitter(100)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += splitter.feed(whole[start:end])
    assert found == [line for line in lines if line]


def test_an_unfinished_line_is_not_given_out() -> None:
    splitter = LineSplitter(100)
    assert splitter.feed(b"a\nhalf") == [b"a"]
    assert splitter.feed(b" more") == []
    assert splitter.feed(b"\n") == [b"half more"]


def test_a_line_beyond_the_limit_is_an_error_before_it_is_complete() -> None:
    splitter = LineSplitter(10)
    splitter.feed(b"12345")
    with pytest.raises(MalformedAnswerError, match="10 bytes"):
        splitter.feed(b"678901")
