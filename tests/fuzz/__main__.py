"""`python -m tests.fuzz MINUTES`: the parsers' property tests, one after the other, until the time is up.

The normal suite runs each of them with a hundred examples. What is found here is printed, and kept in `.hypothesis`,
from where the next `pytest tests/property` takes it up again.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from hypothesis import HealthCheck, settings

EXAMPLES: Final = 1000
"""Of one test, before the next has its turn."""
MODULES: Final = (
    "test_registry_parsers",
    "test_registry_answers",
    "test_reference",
    "test_globs",
    "test_signature_parsers",
    "test_keyless_parsers",
    "test_classic_annotations",
    "test_attestation_parsers",
    "test_cel_literals",
    "test_access_log",
    "test_trace",
)


def targets() -> Iterator[tuple[str, Any]]:
    """The tests that need nothing but examples, by name."""
    for module in MODULES:
        for name, function in vars(importlib.import_module(f"tests.property.{module}")).items():
            if (
                name.startswith("test_")
                and hasattr(function, "hypothesis")
                and not inspect.signature(function).parameters
            ):
                yield f"{module}::{name}", function


def counted(function: Any, name: str, counts: Counter[str]) -> None:
    """Let each example be counted."""
    inner: Callable[..., None] = function.hypothesis.inner_test

    def count(*args: Any, **kwargs: Any) -> None:
        counts[name] += 1
        inner(*args, **kwargs)

    count.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
    function.hypothesis.inner_test = count


def main() -> int:
    """Exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("minutes", type=float)
    end = time.monotonic() + parser.parse_args().minutes * 60
    # Before the modules are read: a test takes the settings of the moment when it is made.
    settings.register_profile(
        "fuzz", max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    settings.load_profile("fuzz")
    counts: Counter[str] = Counter()
    found: dict[str, str] = {}
    tests = dict(targets())
    for name, function in tests.items():
        counted(function, name, counts)
    while time.monotonic() < end and len(found) < len(tests):
        for name, function in tests.items():
            if name in found or time.monotonic() >= end:
                continue
            try:
                function()
            except Exception:
                found[name] = traceback.format_exc()
                print(f"FOUND by {name}:\n{found[name]}", flush=True)
    for name in tests:
        print(f"{counts[name]:>10,}  {name}{'  FOUND' if name in found else ''}")
    print(f"{counts.total():>10,}  examples of {len(tests)} tests, {len(found)} of which found something")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
