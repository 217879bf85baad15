"""Settings of the gate. The command line fills them from flags and `COUNTERSIGN_*` variables."""

from dataclasses import dataclass
from pathlib import Path

from countersign.api import names
from countersign.api.epoch import check_epoch


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
    epoch: str = ""
    """No token is minted by a grant of another epoch (api.epoch): another name after etcd was restored."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_json: bool = True
    """One JSON object a line; otherwise plain text."""

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
