"""Reads the API server's audit log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.waiting import wait_for

Event = dict[str, Any]


class AuditLog:
    """The log as a list of events (audit.k8s.io/v1). Bodies are there for pod writes only, see the policy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def events(
        self,
        where: Callable[[Event], bool] | None = None,
        *,
        verb: str | None = None,
        resource: str | None = None,
        subresource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        user: str | None = None,
    ) -> list[Event]:
        """All events that meet every condition given, oldest first."""
        wanted = {"resource": resource, "subresource": subresource, "namespace": namespace, "name": name}
        found = []
        for event in self._read():
            reference = event.get("objectRef", {})
            if (
                (verb is None or event["verb"] == verb)
                and (user is None or event["user"].get("username") == user)
                and all(value is None or reference.get(key) == value for key, value in wanted.items())
                and (where is None or where(event))
            ):
                found.append(event)
        return found

    def wait(self, where: Callable[[Event], bool] | None = None, *, timeout: float = 5.0, **conditions: str) -> Event:
        """The first such event; the log is written just after the answer is sent."""
        found = wait_for(
            lambda: self.events(where, **conditions) or None, what=f"an audit event with {conditions}", timeout=timeout
        )
        return found[0]

    def _read(self) -> list[Event]:
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().split(b"\n")
        return [json.loads(line) for line in lines[:-1] if line]  # what follows the last newline is still being written
