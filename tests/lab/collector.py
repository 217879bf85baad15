"""A collector of traces: takes OTLP over gRPC and HTTP, and tells what came, by the official definitions."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import builder
from tests.lab.processes import Processes, free_port

GROUP = "telemetry"


class Span(NamedTuple):
    """One span as it was received."""

    service: str
    name: str
    trace_id: str
    """Hexadecimal, as in `traceparent`."""
    span_id: str
    parent_id: str
    kind: str
    attributes: dict[str, Any]
    seconds: float
    error: str
    resource: dict[str, Any]


class Collector:
    """Runs from the constructor on, until `processes` end."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        grpc, http = free_port(), free_port()
        self.grpc = f"127.0.0.1:{grpc}"
        self.url = f"http://127.0.0.1:{http}"
        self._log = folder / "collector.log"
        program = builder.ensure([GROUP])["collector"]
        self.process = processes.start("collector", [program, self.grpc, f"127.0.0.1:{http}"], self._log)
        for port in (grpc, http):
            self.process.wait_until(partial(_listens, port), what=f"it listens on port {port}")

    def spans(self, name: str = "") -> list[Span]:
        """All so far, or those of one name."""
        return [span for span in self._spans() if not name or span.name == name]

    def text(self) -> str:
        """Everything that came, as it was read."""
        return self._log.read_text()

    def _spans(self) -> Iterator[Span]:
        for line in self.text().splitlines():
            if not line.startswith("{"):
                continue
            for group in json.loads(line).get("resourceSpans", ()):
                resource = _attributes(group["resource"])
                for scope in group["scopeSpans"]:
                    for span in scope["spans"]:
                        yield _span(span, resource)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _span(span: dict[str, Any], resource: dict[str, Any]) -> Span:
    return Span(
        resource.get("service.name", ""),
        span["name"],
        _hex(span["traceId"]),
        _hex(span["spanId"]),
        _hex(span.get("parentSpanId", "")),
        span.get("kind", ""),
        _attributes(span),
        (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9,
        span.get("status", {}).get("message", ""),
        resource,
    )


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values()), "") for one in of.get("attributes", ())}


def _hex(text: str) -> str:
    return base64.b64decode(text).hex()
