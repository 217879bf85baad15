"""Settings of the controller. The command line fills them from flags and `COUNTERSIGN_*` variables."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from countersign.api import names
from countersign.api.epoch import check_epoch
from countersign.runtime.tracing.environment import check_tracing


def _identity() -> str:
    # In a pod the host's name is the pod's.
    return f"{socket.gethostname()}"


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """Everything that differs between two controllers."""

    namespace: str = names.SYSTEM_NAMESPACE
    """Our own namespace: Secrets, the Lease, and from where a Revocation reaches the whole cluster."""
    kubeconfig: Path | None = None
    """Cluster access from outside; None: the pod's own service account."""
    identity: str = field(default_factory=_identity)
    """Name under which this process stands in the Lease. The process id is added."""
    gate_service: str = "countersign-gate"
    """Service by which the API server reaches the gate, in our own namespace, port 443."""
    gate_url: str = ""
    """https URL of the gate, where the API server cannot use a Service (a gate outside the cluster)."""
    verifier_service: str = "countersign-verifier"
    """Service of the verifier, for its certificate's names, and where its replicas are found."""
    verifier_url: str = ""
    """https URL of the verifier, where the controller cannot use its Service (a verifier outside the cluster)."""
    verifier_token_file: Path | None = None
    """File with a token of the controller's own account and the audience verifier.countersign.dev, by which verifiers
    tell it how tokens are used. None: they are not asked."""
    certificate_names: tuple[str, ...] = ()
    """DNS names or IP addresses that gate's and verifier's certificates name besides their Services."""
    cluster_domain: str = "cluster.local"
    """DNS suffix of the cluster, for the Services' full names."""
    register_webhooks: bool = True
    """False: leave the webhook configurations alone; somebody else keeps them."""
    impact_grants: int = 10
    """A change of policy that would suspend more grants than this, and more than `impact_share`, is held."""
    impact_share: float = 0.25
    """Share of the policy's active grants, 0 to 1."""
    grant_retention_seconds: int = 86400
    """How long a final grant outlives its pod."""
    scan_requests_per_second: float = 2.0
    """Requests to registries, on average, by which gates verify attestations of running pods again, and find out what
    would become of pods without a receipt if they were made now. 0: none."""
    scan_refresh_seconds: float = 3600.0
    """How long what a registry said of a running pod is believed: its evidence is verified again that often, and sooner
    before an attestation grows too old."""
    collect_seconds: float = 10.0
    """How often gates are asked for what they counted of new pods. 0: never."""
    publish_seconds: float = 60.0
    """How long the counts of new pods in a policy's status stay as they are, at least."""
    use_collect_seconds: float = 5.0
    """How often verifiers are asked how tokens are used. 0: never."""
    use_record_seconds: float = 600.0
    """A grant's status is written at most so often for its uses alone, first ones and misuse aside."""
    replicas_observed_seconds: float = 3600.0
    """How long replicas must have been seen in use before they are compared (misuse: UnlikeSiblings)."""
    replicas_settled_seconds: float = 600.0
    """How long one of them must have used an audience before it is unlike the others."""
    sweep_seconds: float = 60.0
    """How often everything is listed and compared, whatever the watches said."""
    certificate_check_seconds: float = 5.0
    """How often Secrets are compared with what they should hold."""
    workers: int = 16
    """Pods that are worked on at once."""
    health_host: str = "0.0.0.0"  # noqa: S104 - the kubelet calls from the node
    """Address to listen on for the kubelet and for metrics."""
    health_port: int = 8081
    """Plain HTTP: `/healthz`, `/readyz`, `/metrics`."""
    epoch: str = ""
    """Grants of another epoch (api.epoch) are suspended until judged anew: another name after etcd was restored."""
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
        if self.scan_requests_per_second < 0 or self.collect_seconds < 0 or self.scan_refresh_seconds <= 0:
            raise ValueError(
                "scan_requests_per_second and collect_seconds are 0 or more, scan_refresh_seconds more than 0"
            )
        if self.use_collect_seconds < 0 or self.use_record_seconds <= 0:
            raise ValueError("use_collect_seconds is 0 or more, use_record_seconds more than 0")
        if self.replicas_observed_seconds <= 0 or self.replicas_settled_seconds <= 0:
            raise ValueError("replicas_observed_seconds and replicas_settled_seconds are more than 0")
