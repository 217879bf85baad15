"""A metrics registry per process. No module-level registry: two services in one test would share it."""

from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector

from countersign import __version__


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures (CPU, memory, descriptors) and `countersign_build_info`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    info = Gauge("countersign_build_info", "Version of Countersign; always 1.", ["version"], registry=registry)
    info.labels(__version__).set(1)
    return registry
