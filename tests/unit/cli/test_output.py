from __future__ import annotations

import csv
import io
import json

import pytest

from countersign.cli.terminal.exits import printable
from countersign.cli.terminal.output import Format, print_fields, print_rows

ROWS = [{"name": "[red]a[/]", "many": ["x", "y"], "none": None, "more": 1}]


def test_a_table_shows_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("name", "many", "none"), ROWS, Format.TABLE)
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "MANY", "NONE"]
    assert line.split() == ["[red]a[/]", "x,", "y"]


def test_json_has_members_that_the_table_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("name",), ROWS, Format.JSON)
    assert json.loads(capsys.readouterr().out) == ROWS


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(start: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("name",), [{"name": f"{start}1+1"}], Format.CSV)
    _, (cell,) = csv.reader(io.StringIO(capsys.readouterr().out))
    assert cell[0] not in "=+-@\t\r"


def test_nothing_to_show_is_told_off_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("name",), [], Format.TABLE, empty="no grants")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "no grants\n")
    print_rows(("name",), [], Format.CSV, empty="no grants")
    assert capsys.readouterr().out == "name\n"
    print_rows(("name",), [], Format.JSON, empty="no grants")
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("how", [Format.TABLE, Format.CSV])
def test_what_a_terminal_would_obey_is_not_printed(how: Format, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("name",), [{"name": "a\x1b[2Jb\x07\u202ec"}], how)
    print_fields({"name": "a\x1b]0;title\x07"})
    print_rows(("name",), [{"name": "a\x9b2J\u202e"}], Format.JSON)
    assert not set(capsys.readouterr().out) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_lines_and_letters_stay() -> None:
    assert printable("naïve\nü") == "naïve\nü"
