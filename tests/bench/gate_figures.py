"""What the gate tells of itself (`/metrics`), and what it holds in memory with its worker processes."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.bench.load_generator import resident_mib
from tests.stack.installation import Service


def counted(service: Service, name: str, **labels: str) -> float:
    """The sum of a counter's values that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(service.metrics())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def reviews(service: Service) -> float:
    """Reviews of `/mutate` so far."""
    return counted(service, "countersign_gate_admissions_total", path="/mutate")


def quick_reviews(service: Service) -> float:
    """Those that were answered 10 ms after their body was read, or sooner, by the gate's own clock."""
    return counted(service, "countersign_gate_admission_seconds_bucket", path="/mutate", le="0.01")


def verifications(service: Service) -> float:
    """Searches for an image's signatures so far."""
    return counted(service, "countersign_gate_verifications_total")


def remembered_mib(service: Service) -> float:
    """What the gate remembers of images, by its own estimate."""
    return counted(service, "countersign_gate_evidence_cache_bytes") / 1024 / 1024


def memory_mib(service: Service) -> tuple[float, float]:
    """Resident memory of the gate alone, and of its worker processes together."""
    return resident_mib(service.pid), sum(resident_mib(pid) for pid in descendants(service.pid))


def descendants(pid: int) -> list[int]:
    """Processes below this one (proc(5), /proc/pid/task/tid/children)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found
