"""How the run is shared out among pytest-xdist's workers: each has labs of its own, for most of a test is waiting."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

END_TO_END = "tests/e2e/"
"""One lane for all of them: a cluster with a node is dear, and a worker that has one keeps it."""
_ORDER = (END_TO_END, "tests/attack/", "tests/integration/", "tests/lab/")


def lane(nodeid: str) -> str:
    """Tests of one lane run in one worker, one after the other: those of a file share what its fixtures made."""
    return END_TO_END if nodeid.startswith(END_TO_END) else nodeid.partition("::")[0]


def place(nodeid: str) -> int:
    """The dear ones first, so that no worker is left with one of them at the end."""
    return next((number for number, start in enumerate(_ORDER) if nodeid.startswith(start)), len(_ORDER))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Hands out whole lanes, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return lane(nodeid)
