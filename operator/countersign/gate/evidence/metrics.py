"""What the gate counts about registries and verifications: `countersign_gate_*`."""

from collections.abc import Callable
from typing import Final, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from countersign.registry.observer import RequestKind, RequestOutcome, Unobserved

VerificationOutcome = Literal["found", "nothing", "failed"]
"""Some signature or attestation by those asked about; none; it could not be found out."""

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class EvidenceObserver(Protocol):
    """Told of requests to registries (`registry.observer.Observer`), and of what was made of the answers."""

    def requested(self, kind: RequestKind, outcome: RequestOutcome, seconds: float) -> None:
        """As in `registry.observer.Observer`."""

    def retried(self, kind: RequestKind) -> None:
        """As there."""

    def circuits(self, opened: int, open_now: int) -> None:
        """As there."""

    def verified(self, outcome: VerificationOutcome, seconds: float) -> None:
        """One verification of one digest has ended."""

    def remembers(self, read: Callable[[], int]) -> None:
        """How to read the estimated size of the memory of facts, in bytes."""


class UnobservedEvidence(Unobserved):
    """Nobody is told."""

    def verified(self, outcome: VerificationOutcome, seconds: float) -> None:
        """Nothing."""

    def remembers(self, read: Callable[[], int]) -> None:
        """Nothing."""


class EvidenceMetrics:
    """The instruments, in one registry of metrics. No label holds a name that an author of pods could choose."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = 0
        """Requests so far, of all kinds."""
        self._requests = Counter(
            "countersign_gate_registry_requests",
            "HTTP requests to registries and token services, by what was asked for and outcome. Each try counts.",
            ["kind", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "countersign_gate_registry_request_seconds",
            "Time from a request's turn to the end of its answer, by what was asked for.",
            ["kind"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "countersign_gate_registry_retries",
            "Requests sent again after an answer that may mend (429, 5xx, a broken connection, no answer).",
            ["kind"],
            registry=registry,
        )
        self._opened = Counter(
            "countersign_gate_registry_circuits_opened",
            "Times that a registry failed so often in a row that it is left alone for a while. The log names it.",
            registry=registry,
        )
        self._open = Gauge(
            "countersign_gate_registry_circuits_open", "Registries that are left alone now.", registry=registry
        )
        self._verifications = Counter(
            "countersign_gate_verifications",
            "Searches for an image's signatures and attestations, by outcome (found, nothing, failed).",
            ["outcome"],
            registry=registry,
        )
        self._verification_seconds = Histogram(
            "countersign_gate_verification_seconds",
            "Time of one search for an image's signatures and attestations, with all its requests.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._memory = Gauge(
            "countersign_gate_evidence_cache_bytes",
            "Estimated size of what is remembered of images.",
            registry=registry,
        )

    def requested(self, kind: RequestKind, outcome: RequestOutcome, seconds: float) -> None:
        """One try has ended."""
        self.sent += outcome != "circuit_open"
        self._requests.labels(kind, outcome).inc()
        if outcome != "circuit_open":
            self._seconds.labels(kind).observe(seconds)

    def retried(self, kind: RequestKind) -> None:
        """One request is about to be sent again."""
        self._retries.labels(kind).inc()

    def circuits(self, opened: int, open_now: int) -> None:
        """Circuits opened or closed."""
        self._opened.inc(opened)
        self._open.set(open_now)

    def verified(self, outcome: VerificationOutcome, seconds: float) -> None:
        """One verification of one digest has ended."""
        self._verifications.labels(outcome).inc()
        self._verification_seconds.observe(seconds)

    def remembers(self, read: Callable[[], int]) -> None:
        """Read the size of the memory at each scrape."""
        self._memory.set_function(read)
