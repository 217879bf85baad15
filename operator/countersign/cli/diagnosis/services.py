"""Checks of the installation: webhooks, certificates, whether the gate is reached, the controller's Lease, versions."""

import base64
import binascii
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from countersign import __version__
from countersign.api import clock
from countersign.api.names import (
    GATE_TLS_SECRET,
    GROUP,
    LEASE_NAME,
    RECEIPT_ANNOTATION,
    VERIFIER_TLS_SECRET,
    WEBHOOK_CONFIGURATION,
)
from countersign.cli.cluster.kube import ApiError
from countersign.cli.diagnosis.check import Anything, Check, Cluster
from countersign.cli.diagnosis.policies import governed_namespaces

EXPIRY_WARNING: Final = timedelta(days=7)
"""Both CA and leaves are renewed long before (keys.authority, RENEW_AT)."""
LEASE_LIMIT: Final = timedelta(seconds=15)
"""The verifier answers 503 once the controller's Lease has stood still for so long."""
SECOND_LOOK_SECONDS: Final = 6.0
"""A living controller renews its Lease more often than this."""
SERVICES: Final = ("gate", "controller", "verifier")

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"


def webhooks(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether the controller has registered the gate, and whether the CA in it is good."""
    bundles: set[str] = set()
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        found = cluster.find(f"{_ADMISSION}/{plural}/{WEBHOOK_CONFIGURATION}", Anything)
        if found is None:
            yield Check(plural, "fail", "not there", "the controller writes it once a gate answers: see its log")
            continue
        closed = sum(one.get("failurePolicy") == "Fail" for one in found.webhooks)
        yield Check(plural, "ok", f"{len(found.webhooks)} entries, of which {closed} fail closed")
        bundles.update(one["clientConfig"].get("caBundle", "") for one in found.webhooks)
    for bundle in sorted(bundles):
        yield _expiry("certificates", "the CA in the webhook configurations", bundle)


def certificates(cluster: Cluster, system_namespace: str) -> Iterator[Check]:
    """The serving certificates, for those who may read Secrets."""
    for name in (GATE_TLS_SECRET, VERIFIER_TLS_SECRET):
        secret = cluster.find(f"/api/v1/namespaces/{system_namespace}/secrets/{name}", Anything)
        if secret is None:
            yield Check("certificates", "fail", f"no Secret {name}", "the controller writes it: is it running?")
        else:
            yield _expiry("certificates", f"the certificate in Secret {name}", secret.data.get("tls.crt", ""))


def gate(cluster: Cluster, system_namespace: str) -> Iterator[Check]:
    """Whether the API server reaches the gate.

    A server-side dry run leaves nothing behind. Its pod bears a receipt that is none: the gate takes that out of every
    pod, or refuses the pod; without the gate it would stay.
    """
    namespace = next(iter(governed_namespaces(cluster, system_namespace)), None)
    if namespace is None:
        yield Check("gate", "ok", "no namespace is governed, so the API server has no reason to call the gate")
        return
    try:
        created = cluster.create(f"/api/v1/namespaces/{namespace}/pods", _probe(), dry_run=True)
    except ApiError as error:
        yield _refused(namespace, error.message)
        return
    if created.get("metadata", {}).get("annotations", {}).get(RECEIPT_ANNOTATION) == _PROBE:
        found = f"a dry run in {namespace} came through without the gate"
        yield Check("gate", "fail", found, "see the webhook configurations and the gate's log")
    else:
        yield Check("gate", "ok", f"the API server reaches it (a dry run in {namespace} was judged)")


_PROBE: Final = "countersign-doctor"


def _probe() -> dict[str, object]:
    container = {
        "name": "probe",
        "image": "countersign.invalid/doctor:probe",
        "resources": {name: {"cpu": "1m", "memory": "1Mi"} for name in ("requests", "limits")},
        # What Pod Security asks for under `restricted`, so that it has no say here.
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{_PROBE}-", "annotations": {RECEIPT_ANNOTATION: _PROBE}},
        "spec": {
            "containers": [container],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }


def _refused(namespace: str, message: str) -> Check:
    ours = f".{GROUP}" in message
    if ours and "failed calling webhook" in message:
        remedy = "are the gate's pods ready, its Service and network policies right?"
        return Check("gate", "fail", f"the API server cannot reach it: {message}", remedy)
    if ours and "denied the request" in message:
        return Check("gate", "ok", f"the API server reaches it (a dry run in {namespace} was denied, as it should be)")
    remedy = "run this as somebody who may create pods there"
    return Check("gate", "unknown", f"a dry run in {namespace} did not come so far: {message}", remedy)


def controller(cluster: Cluster, system_namespace: str) -> Iterator[Check]:
    """Whether a controller holds the Lease and renews it, whatever its clock says."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{system_namespace}/leases/{LEASE_NAME}"
    lease = cluster.find(path, Anything)
    if lease is None:
        remedy = "start the controller: until then no pod gets a grant, and the verifier answers 503"
        yield Check("controller", "fail", f"no Lease {system_namespace}/{LEASE_NAME}", remedy)
        return
    holder = lease.spec.get("holderIdentity") or "nobody"
    try:
        off = datetime.now(UTC) - clock.parse(lease.spec.get("renewTime") or "")
    except ValueError:
        off = timedelta.max
    if abs(off) <= LEASE_LIMIT:
        yield Check("controller", "ok", f"{holder} leads, and renewed its Lease within {LEASE_LIMIT.seconds} s")
        return
    time.sleep(SECOND_LOOK_SECONDS)
    again = cluster.find(path, Anything)
    if again is not None and again.metadata.resource_version != lease.metadata.resource_version:
        found = f"{holder} leads, but its clock and this machine's differ by {abs(off.total_seconds()):.0f} s"
        yield Check("controller", "warn", found, "set the clocks by NTP")
    else:
        remedy = "start the controller: until then nothing is granted or revoked, and the verifier answers 503"
        since = "" if off == timedelta.max else f" since {lease.spec['renewTime']}"
        yield Check("controller", "fail", f"its Lease (held by {holder}) has not been renewed{since}", remedy)


def deployments(cluster: Cluster, system_namespace: str) -> Iterator[Check]:
    """Whether each service is there, ready, and of this version."""
    path = f"/apis/apps/v1/namespaces/{system_namespace}/deployments"
    found = list(cluster.items(path, Anything, labelSelector="app.kubernetes.io/part-of=countersign"))
    if not found:
        remedy = "pass --system-namespace if it is installed elsewhere"
        yield Check("services", "warn", f"no Deployment of Countersign in {system_namespace}", remedy)
        return
    running = {one.metadata.labels.get("app.kubernetes.io/component", one.metadata.name): one for one in found}
    for name in SERVICES:
        deployment = running.get(name)
        if deployment is None:
            yield Check(name, "fail", "no Deployment", "install or upgrade the chart")
            continue
        ready, wanted = deployment.status.get("readyReplicas", 0), deployment.spec.get("replicas", 1)
        version = deployment.metadata.labels.get("app.kubernetes.io/version", "unknown")
        if ready < wanted:
            remedy = f"kubectl describe pods -n {system_namespace} -l app.kubernetes.io/component={name}"
            yield Check(name, "warn" if ready else "fail", f"{ready} of {wanted} replicas are ready", remedy)
        if version != __version__:
            found_version = f"it is {version}, this command {__version__}"
            yield Check(name, "warn", found_version, "use the same version, or upgrade the chart")
        elif ready >= wanted:
            yield Check(name, "ok", f"version {version}, {ready} of {wanted} replicas are ready")


def _expiry(check: str, what: str, pem_base64: str) -> Check:
    from cryptography import x509

    try:
        loaded = x509.load_pem_x509_certificates(base64.b64decode(pem_base64))
    except (ValueError, binascii.Error):
        return Check(check, "fail", f"{what} cannot be read", "restart the controller, which writes it anew")
    # While a CA is renewed the bundle holds the old one, too: the newest counts.
    end = max(certificate.not_valid_after_utc for certificate in loaded)
    left = end - datetime.now(UTC)
    if left <= timedelta(0):
        return Check(check, "fail", f"{what} expired at {end:%Y-%m-%d %H:%M} UTC", "is the controller running?")
    if left < EXPIRY_WARNING:
        remedy = "the controller should have renewed it: see its log"
        return Check(check, "warn", f"{what} expires at {end:%Y-%m-%d %H:%M} UTC", remedy)
    return Check(check, "ok", f"{what} is good until {end:%Y-%m-%d}")
