"""`countersign policy test` without a pod: run cases, report, record."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from countersign.cli.image.registries import Registries
from countersign.cli.policy.suite.reading import BadCase, case_files
from countersign.cli.policy.suite.recording import Recording
from countersign.cli.policy.suite.report import print_results, summary, write
from countersign.cli.policy.suite.run import Result, run
from countersign.cli.policy.suite.uses import run_use
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format


class SuiteFormat(StrEnum):
    """How to print results of cases."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    JUNIT = "junit"


def run_suite(
    paths: Sequence[Path],
    registries: Registries,
    output: SuiteFormat,
    file: Path | None,
    *,
    record: bool,
    root: Path | None,
) -> Exit:
    """Run the cases in these files and folders, and tell what came of them. Ends the command where that cannot be.

    `root`: content of the evidence root that counts by default.
    """
    if file is not None and output not in (SuiteFormat.JUNIT, SuiteFormat.JSON):
        fail("--file goes with --output junit or json")
    recording = Recording()
    results: list[Result] = []
    for file_ in case_files(paths, root):
        cases, uses = file_.content.cases, file_.content.uses
        results += [run(file_, case, registries, live=record, observe=recording.observe) for case in cases]
        results += [run_use(file_, use) for use in uses]
    if record:
        _record(recording)
    _report(results, output, file)
    outcomes = {one.outcome for one in results}
    return Exit.USAGE if "error" in outcomes else Exit.NO if "failed" in outcomes else Exit.YES


def _record(recording: Recording) -> None:
    try:
        for path in recording.write():
            note(f"recorded: {path}")
    except (OSError, BadCase) as error:
        fail(f"--record: {error}")


def _report(results: Sequence[Result], output: SuiteFormat, file: Path | None) -> None:
    try:
        if output is SuiteFormat.JUNIT or file is not None:
            write(results, file, as_junit=output is SuiteFormat.JUNIT)
    except OSError as error:
        fail(f"--file {file}: {error.strerror}")
    if file is not None:
        print_results(results, Format.TABLE)
    elif output is not SuiteFormat.JUNIT:
        print_results(results, Format(output.value))
    else:
        note(summary(results))
