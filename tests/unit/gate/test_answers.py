"""Bounds that the API server sets on an answer."""

from countersign.gate.answers import as_warnings


def test_warnings_have_no_control_characters_no_doubles_and_bounded_length() -> None:
    assert as_warnings(["a\nb\x00c", "a\nb\x00c", "x" * 300]) == ("a b c", "x" * 253 + "...")


def test_more_warnings_than_are_read_become_a_count() -> None:
    found = as_warnings(f"warning {number}" for number in range(20))
    assert len(found) == 8
    assert found[-1] == "countersign: 13 more warnings; see `countersign explain`"
