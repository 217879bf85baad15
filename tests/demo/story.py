"""Tells the story: each step with what was done, what came back, how long it took, and whether it went as told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class NotAsToldError(AssertionError):
    """A step of the demo did not end as the story says. The message holds what came back instead."""


@dataclass
class Step:
    """One step, as it went."""

    title: str
    milliseconds: float = 0.0
    outcome: str = ""
    went_as_told: bool = False


class Story:
    """Prints the steps as they happen, and a table of them at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[Step] = []

    def say(self, text: str) -> None:
        """A paragraph between steps."""
        self.console.print(f"\n{escape(text)}", style="dim")

    @contextmanager
    def step(self, title: str) -> Iterator["Teller"]:
        """One step. What raises inside is told, and the story goes on."""
        step = Step(title)
        self.steps.append(step)
        self.console.rule(f"[bold]{len(self.steps)}. {escape(title)}", align="left")
        teller = Teller(self.console, step)
        started = time.perf_counter()
        try:
            yield teller
            step.went_as_told = True
        except Exception as error:
            step.outcome = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            self.console.print(f"  [bold red]not as told:[/] {escape(str(error))}")
        finally:
            if not step.milliseconds:
                step.milliseconds = (time.perf_counter() - started) * 1000
        mark = "[green]as told[/]" if step.went_as_told else "[red]NOT AS TOLD[/]"
        self.console.print(f"  {mark}, {step.milliseconds:,.0f} ms")

    def finish(self) -> bool:
        """Print the table. Returns whether every step went as told."""
        table = Table(title="What happened", title_justify="left", header_style="bold")
        for column in ("", "step", "what came back"):
            table.add_column(column, overflow="fold")
        table.add_column("ms", justify="right")
        table.add_column("as told")
        for number, step in enumerate(self.steps, 1):
            told = "[green]yes[/]" if step.went_as_told else "[bold red]NO[/]"
            table.add_row(str(number), escape(step.title), escape(step.outcome), f"{step.milliseconds:,.0f}", told)
        self.console.print()
        self.console.print(table)
        return bool(self.steps) and all(step.went_as_told for step in self.steps)


class Teller:
    """What a step says while it happens."""

    def __init__(self, console: Console, step: Step) -> None:
        self._console = console
        self._step = step

    def did(self, text: str) -> None:
        """What was done."""
        self._console.print(f"  [cyan]did[/]  {escape(text)}")

    def got(self, text: str) -> None:
        """What came back, as it came."""
        for line in text.strip().splitlines():
            self._console.print(f"  [yellow]got[/]  {escape(line)}")

    def outcome(self, text: str) -> None:
        """The step's line in the table."""
        self._step.outcome = text

    def took(self, milliseconds: float) -> None:
        """The time that matters, where it is not the whole step's."""
        self._step.milliseconds = milliseconds

    def expect(self, holds: object, otherwise: str) -> None:
        """End the step with NotAsToldError unless `holds`."""
        if not holds:
            raise NotAsToldError(otherwise)
