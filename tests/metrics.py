"""docs/metrics.md: every metric of the three services, from the registries in which they stand.

python -m tests.metrics docs/metrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from countersign.controller.metrics import ControllerMetrics
from countersign.gate.evidence.traced import TracedEvidence
from countersign.gate.metrics import GateMetrics
from countersign.runtime.metrics import new_registry
from countersign.runtime.tracing.metrics import TraceMetrics
from countersign.verifier.metrics import VerifierMetrics

PREFIX = "countersign_"
SCRAPED = frozenset({"namespace", "pod", "component", "job", "instance"})
"""Labels that the scrape adds (templates/metrics.yaml)."""
_SUFFIXES: Mapping[str, tuple[str, ...]] = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}

HEADER = """# Metrics

Written by `make generate` from the services themselves. Do not edit. Each service has its own on port 8081, `/metrics`;
besides these the usual ones of the process (`process_*`, `python_info`). What to look at first is in the dashboard
(`dashboards.enabled`) and in [alerts.md](alerts.md). A histogram has `_bucket` (with `le`), `_count` and `_sum`, in
seconds.

| metric | type | labels | of | what it is |
|---|---|---|---|---|
"""


class Metric(NamedTuple):
    """One family of samples."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str
    services: tuple[str, ...] = ()

    @property
    def samples(self) -> dict[str, frozenset[str]]:
        """Its series by their names, with their labels."""
        own = frozenset(self.labels)
        return {
            f"{self.name}{suffix}": own | ({"le"} if suffix == "_bucket" else frozenset())
            for suffix in _SUFFIXES.get(self.kind, ("",))
        }


def gate() -> CollectorRegistry:
    """As gate/service.py composes it."""
    registry = new_registry()
    TraceMetrics(registry)
    metrics = GateMetrics(registry)
    metrics.paused(lambda: False)
    TracedEvidence(registry)
    return registry


def controller() -> CollectorRegistry:
    """As controller/service.py and controller/parts.py compose it."""
    registry = new_registry()
    TraceMetrics(registry)
    ControllerMetrics(registry).queue_depth(lambda: 0)
    return registry


def verifier() -> CollectorRegistry:
    """As verifier/service.py composes it."""
    registry = new_registry()
    TraceMetrics(registry)
    metrics = VerifierMetrics(registry)
    metrics.restore_suspected(lambda: 0.0)
    metrics.read_access_log(lambda: {"written": 0.0})
    metrics.read_at_scrape(ages=lambda: {"heartbeat": 0.0}, sizes=lambda: {"pods": 0.0})
    return registry


SERVICES: Mapping[str, Callable[[], CollectorRegistry]] = {
    "gate": gate,
    "controller": controller,
    "verifier": verifier,
}
"""A room that counts something new is added to its service above; a test scrapes the running ones."""


def metrics() -> dict[str, Metric]:
    """All of them, by name, sorted."""
    found: dict[str, Metric] = {}
    for service, composed in SERVICES.items():
        for metric in _of(composed()):
            known = found.get(metric.name, metric)
            if known[:4] != metric[:4]:
                raise AssertionError(f"{metric.name} is not the same metric in all services")
            found[metric.name] = metric._replace(services=(*known.services, service))
    return dict(sorted(found.items()))


def samples() -> dict[str, frozenset[str]]:
    """Labels of each series, by its name: what a query may name."""
    return {name: labels for metric in metrics().values() for name, labels in metric.samples.items()}


def page() -> str:
    """The page, complete."""
    return HEADER + "".join(
        f"| `{metric.name}{'_total' if metric.kind == 'counter' else ''}` | {metric.kind} | "
        f"{', '.join(f'`{label}`' for label in metric.labels)} | {', '.join(metric.services)} | {metric.about} |\n"
        for metric in metrics().values()
    )


def _of(registry: CollectorRegistry) -> Iterator[Metric]:
    # A metric without children has no samples, and prometheus_client has no public way to ask for its labels.
    for collector in list(registry._collector_to_names):
        names = tuple(collector._labelnames) if isinstance(collector, MetricWrapperBase) else None
        for family in collector.collect():
            if not family.name.startswith(PREFIX):
                continue
            labels = (
                names if names is not None else tuple(sorted({key for one in family.samples for key in one.labels}))
            )
            yield Metric(family.name, family.type, labels, family.documentation)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
