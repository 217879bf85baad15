"""A metrics registry per process. No module-level registry: two services in one test would share it."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures (CPU, memory, descriptors) and `countersign_build_info`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    info = Gauge("countersign_build_info", "Version of Countersign; always 1.", ["version"], registry=registry)
    info.labels(version("countersign")).set(1)
    return registry
