"""Results of a suite: a table with differences for people, JUnit's XML for build servers, JSON and CSV for scripts."""

import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from countersign.cli.policy.suite.run import Result
from countersign.cli.terminal.output import Format, print_json, print_rows, say

COLUMNS = ("outcome", "file", "case", "seconds")


def print_results(results: Sequence[Result], output: Format) -> None:
    """Print them; as a table with the differences below it."""
    if output is Format.JSON:
        print_json(members(results))
        return
    print_rows(COLUMNS, [_row(one) for one in results], output)
    if output is Format.TABLE:
        for one in results:
            if one.outcome != "passed":
                say(f"\n{one.file.path}: {one.name}")
                for line in _lines(one):
                    say(f"  {line}")
        say("\n" + summary(results))


def summary(results: Sequence[Result]) -> str:
    """How many passed, in a line."""
    counts = [(sum(one.outcome == outcome for one in results), outcome) for outcome in ("passed", "failed", "error")]
    return ", ".join(
        f"{count} {'could not be run' if outcome == 'error' else outcome}"
        for count, outcome in counts
        if count or outcome == "passed"
    )


def members(results: Sequence[Result]) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "summary": {
            outcome: sum(one.outcome == outcome for one in results) for outcome in ("passed", "failed", "error")
        },
        "cases": [
            {
                **_row(one),
                "message": one.message,
                "differences": [
                    {"member": each.member, "expected": list(each.expected), "found": list(each.found)}
                    for each in one.differences
                ],
            }
            for one in results
        ],
    }


def junit(results: Iterable[Result]) -> bytes:
    """JUnit's XML, in the common subset of what build servers read.

    One testsuite for each file, `failure` for what is not as expected, `error` for a case that could not be run
    (github.com/testmoapp/junitxml; the schema of Jenkins' xUnit plug-in, junit-10.xsd).
    """
    root = Element("testsuites", name="countersign policy test")
    totals = {"tests": 0, "failures": 0, "errors": 0}
    seconds = 0.0
    for path, group in groupby(results, key=lambda one: one.file.path):
        several = list(group)
        counts = {
            "tests": len(several),
            "failures": sum(one.outcome == "failed" for one in several),
            "errors": sum(one.outcome == "error" for one in several),
        }
        time = sum(one.seconds for one in several)
        suite = SubElement(root, "testsuite", {"name": _xml(str(path)), **_texts(counts), "time": f"{time:.3f}"})
        for one in several:
            _test_case(suite, path, one)
        totals = {name: totals[name] + counts[name] for name in totals}
        seconds += time
    root.attrib.update(_texts(totals), time=f"{seconds:.3f}")
    indent(root)
    data: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def write(results: Sequence[Result], file: Path | None, *, as_junit: bool) -> None:
    """Write a report into the file, or to standard output. Raises OSError."""
    data = junit(results) if as_junit else (json.dumps(members(results), indent=2) + "\n").encode()
    if file is not None:
        file.write_bytes(data)
    else:
        sys.stdout.write(data.decode())


def _test_case(suite: Element, path: Path, result: Result) -> None:
    classname = ".".join(path.with_suffix("").parts).strip("./") or path.stem
    case = SubElement(
        suite, "testcase", name=_xml(result.name), classname=_xml(classname), time=f"{result.seconds:.3f}"
    )
    if result.outcome == "passed":
        return
    lines = list(_lines(result))
    told = SubElement(
        case,
        "failure" if result.outcome == "failed" else "error",
        message=_xml(lines[0] if result.outcome == "error" else ", ".join(one.member for one in result.differences)),
        type="BadCase" if result.outcome == "error" else "Difference",
    )
    told.text = _xml("\n".join(lines))


def _lines(result: Result) -> Iterator[str]:
    if result.outcome == "error":
        yield result.message
    for one in result.differences:
        yield f"{one.member}:"
        for line in difflib.ndiff(list(one.expected), list(one.found)):
            if not line.startswith("?"):
                yield f"  {line}"


def _row(result: Result) -> dict[str, Any]:
    return {
        "outcome": result.outcome,
        "file": str(result.file.path),
        "case": result.name,
        "seconds": f"{result.seconds:.3f}",
    }


def _texts(counts: dict[str, int]) -> dict[str, str]:
    return {name: str(count) for name, count in counts.items()}


def _xml(text: str) -> str:
    """The text without characters that XML 1.0 has no way to write (production Char)."""
    return "".join(
        one if one in "\t\n\r" or " " <= one <= "\ud7ff" or "\ue000" <= one <= "\ufffd" or one >= "\U00010000" else "?"
        for one in text
    )
