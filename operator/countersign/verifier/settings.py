"""Settings of the verifier. The command line fills them from flags and `COUNTERSIGN_*` variables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from countersign.api import names
from countersign.api.epoch import check_epoch
from countersign.runtime.tracing.environment import check_tracing

ACCESS_LOGS: Final = ("All", "Inactive", "None")


@dataclass(frozen=True, kw_only=True)
class VerifierSettings:
    """Everything that differs between two verifiers."""

    namespace: str = names.SYSTEM_NAMESPACE
    """Our own namespace: certificate, Lease, and from where a Revocation reaches the whole cluster."""
    kubeconfig: Path | None = None
    """Cluster access from outside; None: the pod's own service account."""
    host: str = "0.0.0.0"  # noqa: S104 - relying parties call from other hosts
    """Address to listen on."""
    port: int = 8443
    """TLS port of `/introspect` and `/explain`; 0 takes a free one."""
    health_host: str = "0.0.0.0"  # noqa: S104 - so does the kubelet
    """Address to listen on for the kubelet and for metrics."""
    health_port: int = 8081
    """Plain HTTP: `/healthz`, `/readyz`, `/metrics`."""
    issuers: tuple[str, ...] = ()
    """Issuers accepted besides the one that the API server publishes (its former ones, during a change of issuer)."""
    heartbeat_limit_seconds: float = 15.0
    """The verifier answers 503 once it has not seen the controller's Lease move for so long."""
    watch_limit_seconds: float = 120.0
    """The same for a watch without a sign of life; the API server sends a bookmark about each minute."""
    keys_limit_seconds: float = 300.0
    """The same for the issuer's keys, which are fetched each minute."""
    grant_wait_seconds: float = 2.0
    """How long an answer about a pod just born waits for its grant."""
    asker_rate: float = 5000.0
    """Requests per second that one relying party (service account) may make; beyond that it gets 429. 0: no limit."""
    asker_burst: int = 10000
    """Requests that it may make at once."""
    access_log: str = "All"
    """Decisions that are written to standard output, one JSON line each: All, Inactive or None (docs/record.md)."""
    access_log_rate: float = 100.0
    """Lines per second about one relying party; what goes beyond that is summed up in one line. 0: no limit."""
    drain_seconds: float = 5.0
    """After SIGTERM: how long to go on serving while `/readyz` fails, so that endpoints forget this replica first."""
    epoch: str = ""
    """A grant of another epoch (api.epoch) is not active: another name after etcd was restored."""
    otlp_endpoint: str = ""
    """OpenTelemetry collector that takes traces over OTLP/HTTP, such as `http://collector:4318`. Empty: the one that
    `OTEL_EXPORTER_OTLP_ENDPOINT` names; nobody traces where neither is given."""
    trace_ratio: float = 0.1
    """Share of the traces that begin here which is kept, 0 to 1. Who sends `traceparent` decides for its own traces."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_json: bool = True
    """One JSON object a line; otherwise plain text."""

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
        check_tracing(self.otlp_endpoint, self.trace_ratio)
        if self.access_log not in ACCESS_LOGS:
            raise ValueError(f"no access log is called {self.access_log!r}: use one of {', '.join(ACCESS_LOGS)}")
        if self.access_log_rate < 0:
            raise ValueError(f"an access log of {self.access_log_rate} lines per second: write 0 for no limit")
