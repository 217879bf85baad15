"""Tracing, on or off, for one service process."""

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from countersign import __version__
from countersign.runtime.tracing.environment import resource_of, target_of
from countersign.runtime.tracing.metrics import TraceMetrics
from countersign.runtime.tracing.spans import UNTRACED, Tracer


class Tracing:
    """Made early, so that its metrics are there; entered while the event loop runs."""

    def __init__(
        self,
        service: str,
        endpoint: str,
        ratio: float,
        registry: CollectorRegistry,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Raises ValueError as `check` does."""
        self._target = target_of(endpoint, environment)
        self._resource = resource_of(service, __version__, socket.gethostname(), environment)
        self._ratio = ratio
        self._metrics = TraceMetrics(registry)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Tracer]:
        """The tracer, for as long as the context lasts; one that does nothing where nobody is to be told."""
        if self._target is None:
            yield UNTRACED
            return
        # Whoever is not asked to trace loads none of it.
        from countersign.runtime.tracing.export import Exporter
        from countersign.runtime.tracing.recording import RecordingTracer

        async with Exporter(self._target, self._resource, __version__, self._metrics.count) as exporter:
            yield RecordingTracer(self._ratio, exporter)
