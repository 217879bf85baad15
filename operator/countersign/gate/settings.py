"""Settings of the gate. The command line fills them from flags and `COUNTERSIGN_*` variables."""

from dataclasses import dataclass
from pathlib import Path

from countersign.api import names
from countersign.api.epoch import check_epoch
from countersign.runtime.tracing.environment import check_tracing


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Everything that differs between two gates."""

    namespace: str = names.SYSTEM_NAMESPACE
    """Our own namespace: where our Secrets are, and from where a Revocation reaches the whole cluster."""
    kubeconfig: Path | None = None
    """Cluster access from outside; None: the pod's own service account."""
    host: str = "0.0.0.0"  # noqa: S104 - the API server calls from another host
    """Address to listen on."""
    port: int = 8443
    """TLS port of `/mutate` and `/validate`; 0 takes a free one."""
    health_host: str = "0.0.0.0"  # noqa: S104 - so does the kubelet
    """Address to listen on for the kubelet and for metrics."""
    health_port: int = 8081
    """Plain HTTP: `/healthz`, `/readyz`, `/metrics`."""
    drain_seconds: float = 5.0
    """After SIGTERM: how long the gate goes on serving while `/readyz` fails, so that endpoints forget it first."""
    watch_limit_seconds: float = 300.0
    """Silence of a watch after which the gate calls itself unready. It keeps judging by what it last knew."""
    registry_ca_files: tuple[Path, ...] = ()
    """PEM bundles trusted for registries, besides the system's."""
    insecure_registries: tuple[str, ...] = ()
    """`host[:port]` of registries that are spoken to in plain HTTP."""
    allowed_address_ranges: tuple[str, ...] = ()
    """CIDR ranges that registries may be in although they are denied by default (loopback, link-local, metadata)."""
    denied_address_ranges: tuple[str, ...] = ()
    """CIDR ranges that no registry may be in, whatever allows it: those of Services, or of a management network."""
    registry_credentials_file: Path | None = None
    """Docker configuration with the gate's own registry credentials, tried after those of the pod. They count for every
    namespace, as a node's do for the kubelet. Read anew when it changes."""
    registry_requests: int = 128
    """Requests to registries in flight at once, all in all. A namespace may take a quarter of them."""
    registry_requests_per_host: int = 32
    """Requests in flight at once to one registry. A namespace may take half of them."""
    evidence_cache_mib: int = 32
    """Memory for what was found out about images, in MiB. What was used least recently goes first."""
    evidence_workers: int = 2
    """Processes that judge what takes long: certificates, conditions, large attestations. Started when there is work,
    ended when there has been none for ten minutes."""
    warm_up: bool = True
    """After the start, find out about the images of the governed pods that run, so that their successors need not
    wait."""
    warm_up_requests_per_second: float = 10.0
    """Registry requests a second that the warm-up may cause at the most."""
    epoch: str = ""
    """No token is minted by a grant of another epoch (api.epoch): another name after etcd was restored."""
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
        for name in ("registry_requests", "registry_requests_per_host", "evidence_cache_mib", "evidence_workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
        if self.warm_up_requests_per_second <= 0:
            raise ValueError("--warm-up-requests-per-second must be more than 0; --no-warm-up turns it off")
