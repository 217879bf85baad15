"""Requests to registries counted by whoever caused them: for work that must stay within a rate.

The count follows the context (PEP 567) into every task that is started within it. A verification that somebody else has
in flight already is theirs, and is not counted again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class RequestCount:
    """HTTP requests, redirects and token requests included."""

    def __init__(self) -> None:
        self.made = 0

    def take(self) -> int:
        """How many since the last time that this was asked."""
        made, self.made = self.made, 0
        return made


_counting: ContextVar[RequestCount | None] = ContextVar("countersign_registry_requests", default=None)


@contextmanager
def counted_in(count: RequestCount) -> Iterator[None]:
    """Count what is sent from here on, and by tasks that start here, in `count`."""
    token = _counting.set(count)
    try:
        yield
    finally:
        _counting.reset(token)


def note_request() -> None:
    """One request is about to be sent."""
    count = _counting.get()
    if count is not None:
        count.made += 1
