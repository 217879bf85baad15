"""What became of spans."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter

Outcome = Literal["exported", "queue_full", "unreachable", "refused"]
"""Taken by the collector; dropped since the queue was full, since the collector did not answer, since it refused."""


class TraceMetrics:
    """There in every service, traced or not, so that dashboards and alerts need not know which."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._spans = Counter(
            "countersign_trace_spans",
            "Spans recorded, by what became of them (exported, queue_full, unreachable, refused).",
            ["outcome"],
            registry=registry,
        )

    def count(self, outcome: Outcome, spans: int) -> None:
        """So many spans met with this."""
        self._spans.labels(outcome).inc(spans)
