"""A service of ours on a machine whose clock is wrong: `python -m tests.stack.skewed SECONDS gate --...`.

Only the clock on the wall is moved, as on such a machine; the monotonic one goes on as ever.
"""

from __future__ import annotations

import datetime as module
import importlib
import sys
import time
from typing import Any

_SERVICES = ("gate", "controller", "verifier")


def skew(seconds: float) -> None:
    """Move what `datetime.now` and `time.time` say in every module of ours, loaded or still to be."""
    real, shift, wall = module.datetime, module.timedelta(seconds=seconds), time.time

    class Skewed(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + shift

        @classmethod
        def fromtimestamp(cls, timestamp: float, tz: Any = None) -> Any:
            return real.fromtimestamp(timestamp, tz)  # no other kind of datetime, which not everybody can encode

    time.time = lambda: wall() + seconds
    for service in _SERVICES:
        importlib.import_module(f"countersign.{service}.service")
    for name, loaded in list(sys.modules.items()):
        if name.startswith("countersign") and getattr(loaded, "datetime", None) is real:
            loaded.datetime = Skewed  # type: ignore[attr-defined]


if __name__ == "__main__":
    skew(float(sys.argv[1]))
    from countersign.cli.main import run

    sys.argv = ["countersign", *sys.argv[2:]]
    run()
