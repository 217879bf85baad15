"""Names that stand in the API: group, labels, annotations, well-known objects.

Every other module takes them from here, so that a name is spelt once.
"""

from typing import Final

GROUP: Final = "countersign.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "countersign"

RECEIPT_ANNOTATION: Final = f"{GROUP}/receipt"
"""The admission receipt on a pod: a compact JWS, or `dry-run` (which no reader accepts)."""
DRY_RUN_RECEIPT: Final = "dry-run"

POD_UID_LABEL: Final = f"{GROUP}/pod-uid"
"""On a WorkloadGrant: the UID of its pod, so that it can be found by label selector."""
CAUSE_LABEL: Final = f"{GROUP}/cause"
"""On a Revocation that a gate wrote: what somebody did to the pod (`exec`, `attach`, `port-forward`)."""
MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
"""Set by the kubelet on the API object of a static pod (kubernetes.io/docs, static pods)."""

SYSTEM_NAMESPACE: Final = "countersign-system"
"""Where the chart installs by default. Services take the real one as a setting."""
EXEMPT_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease")

TOKEN_MOUNT_ROOT: Final = "/var/run/secrets/countersign.dev"
"""Each token is mounted at `<root>/<token name>/<path>`."""
TOKEN_VOLUME_PREFIX: Final = "countersign-token-"

VERIFIER_AUDIENCE: Final = "verifier.countersign.dev"
"""The audience of the token by which a relying party identifies itself at `/introspect`."""
RESERVED_AUDIENCE_SUFFIX: Final = "countersign.dev"

LEASE_NAME: Final = "countersign-controller"
"""Leader election of the controller, and the heartbeat that the verifier watches."""
CA_SECRET: Final = "countersign-ca"
GATE_TLS_SECRET: Final = "countersign-gate-tls"
VERIFIER_TLS_SECRET: Final = "countersign-verifier-tls"
RECEIPT_KEYS_SECRET: Final = "countersign-receipt-keys"
CA_CONFIGMAP: Final = "countersign-ca"
"""Public half of the CA, for relying parties that call the verifier."""

WEBHOOK_CONFIGURATION: Final = "countersign"
"""Name of both the mutating and the validating webhook configuration."""
CLOSED_ANNOTATION: Final = f"{GROUP}/fails-closed-after-pause"
"""On a webhook configuration that a pause keeps open: its entries failed closed before, and will again."""
POD_ENTRIES: Final = "pods-"
"""How the names of the webhook entries about pods begin: those that a pause opens."""
CONNECT_ENTRIES: Final = "connect-"
"""How the names of the entries about exec, attach and port-forward begin. A pause leaves them as they are."""
