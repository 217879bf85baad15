"""Rows as a table, JSON or CSV: one way of printing for every command."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from countersign.cli.terminal.exits import note, printable


class Format(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


MIN_FIELD_WIDTH = 12
"""So that fields printed in several goes stand below each other."""

OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print: table, json or csv.")]


def print_rows(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], how: Format, *, empty: str = "nothing"
) -> None:
    """Print `rows`, each a mapping with the `columns` as keys; JSON takes members beyond them, too."""
    collected = list(rows)
    if how is Format.JSON:
        print_json(collected)
    elif how is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_cell(row.get(column)) for column in columns] for row in collected)
    elif not collected:
        note(empty)
    else:
        table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.upper(), overflow="fold")
        for row in collected:
            table.add_row(*(escape(_cell(row.get(column))) for column in columns))
        console().print(table)


def print_json(value: Any) -> None:
    """Print as indented JSON. In ASCII: a terminal obeys some characters beyond it, too."""
    sys.stdout.write(json.dumps(msgspec.to_builtins(value), indent=2) + "\n")


def print_fields(fields: Mapping[str, str]) -> None:
    """Names and values, one line each."""
    width = max(MIN_FIELD_WIDTH, *map(len, fields)) + 2
    for name, value in fields.items():
        say(f"{name:<{width}}{value}")


def say(text: str) -> None:
    """A line on standard output."""
    typer.echo(printable(text))


def console() -> Console:
    """Standard output; wide where it is no terminal, so that a pipe gets whole lines."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=400, soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return printable(str(value))


def _csv_cell(value: Any) -> str:
    text = _cell(value)
    # A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection).
    return "'" + text if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
