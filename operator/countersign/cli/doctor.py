"""`countersign doctor`: is everything in place that a verdict rests on? One line a check, with what to do."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import typer

from countersign import __version__
from countersign.api import clock
from countersign.api.admission import Namespace
from countersign.api.audience import ProtectedAudience
from countersign.api.meta import condition
from countersign.api.names import EXEMPT_NAMESPACES, GROUP, LEASE_NAME, SYSTEM_NAMESPACE, WEBHOOK_CONFIGURATION
from countersign.api.objects import KINDS
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.cli.exits import Exit
from countersign.cli.kube import ApiError, ContextOption, KubeconfigOption, Kube, connected
from countersign.cli.output import Format, OutputOption, print_rows
from countersign.cli.paths import collection

Result = Literal["ok", "warn", "fail"]

SKEW_LIMIT = timedelta(seconds=5)
"""Receipts are accepted within seconds of a pod's creation, so clocks must agree about as well."""
EXPIRY_WARNING = timedelta(days=7)
LEASE_LIMIT = timedelta(seconds=15)
"""The verifier answers 503 once the controller's Lease has stood still for so long."""
GUARDS = ("grants", "minting", "owners", "namespace-labels", "receipts", "revocations")
SERVICES = ("gate", "controller", "verifier")


class Check(NamedTuple):
    """What one check found."""

    check: str
    result: Result
    found: str
    remedy: str = ""


def doctor(
    system_namespace: Annotated[str, typer.Option(help="Countersign's own namespace.")] = SYSTEM_NAMESPACE,
    output: OutputOption = Format.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Look for trouble: API, guards, webhooks, certificates, clocks, versions, policies, ungoverned namespaces."""
    kube = connected(kubeconfig, context)
    found = list(examine(kube, system_namespace))
    print_rows(("check", "result", "found", "remedy"), [check._asdict() for check in found], output)
    raise typer.Exit(Exit.NO if any(check.result == "fail" for check in found) else Exit.YES)


def examine(kube: Kube, system_namespace: str) -> Iterator[Check]:
    """Run every check. One that cannot be run says so as its finding, and the others go on."""
    checks: tuple[Callable[[Kube, str], Iterator[Check]], ...] = (
        _clocks, _kinds, _guards, _webhooks, _gate_answers, _lease, _versions, _policies, _ungoverned,
    )  # fmt: skip
    for check in checks:
        try:
            yield from check(kube, system_namespace)
        except ApiError as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Check(
                name, "warn", f"could not look: {error.message}", "ask for read access, or run this as an admin"
            )


def _clocks(kube: Kube, system_namespace: str) -> Iterator[Check]:
    before = datetime.now(UTC)
    data, headers = kube.request("GET", "/version")
    version = msgspec.json.decode(data)
    yield Check("API server", "ok", f"Kubernetes {version['gitVersion']}")
    date = next((value for key, value in headers.items() if key.lower() == "date"), "")
    if not date:
        return
    # The header has whole seconds, and was written somewhere between our two looks at the clock.
    skew = abs(parsedate_to_datetime(date) - before)
    if skew > SKEW_LIMIT:
        yield Check(
            "clocks",
            "warn",
            f"this machine and the API server differ by {skew.total_seconds():.0f} s",
            "set the clocks by NTP",
        )
    else:
        yield Check("clocks", "ok", f"within {SKEW_LIMIT.total_seconds():.0f} s of the API server")


def _kinds(kube: Kube, system_namespace: str) -> Iterator[Check]:
    missing = []
    for kind in KINDS:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.PLURAL}.{GROUP}"
        try:
            found = kube.get(path, dict[str, Any])
        except ApiError as error:
            if error.status != 404:
                raise
            missing.append(kind.KIND)
            continue
        conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", ())}
        if conditions.get("Established") != "True":
            missing.append(kind.KIND)
    if missing:
        yield Check("kinds", "fail", f"not there: {', '.join(missing)}", "install the chart's CRDs")
    else:
        yield Check("kinds", "ok", f"{len(KINDS)} kinds established")


def _guards(kube: Kube, system_namespace: str) -> Iterator[Check]:
    base = "/apis/admissionregistration.k8s.io/v1"
    policies = {p["metadata"]["name"] for p in kube.items(f"{base}/validatingadmissionpolicies", dict[str, Any])}
    bound = {
        b["spec"]["policyName"]
        for b in kube.items(f"{base}/validatingadmissionpolicybindings", dict[str, Any])
        if "Deny" in b["spec"].get("validationActions", ())
    }
    missing = [name for name in GUARDS if not any(p.startswith(f"countersign-{name}") for p in policies & bound)]
    if missing:
        yield Check(
            "guards",
            "fail",
            f"no bound ValidatingAdmissionPolicy for: {', '.join(missing)}",
            "install or upgrade the chart",
        )
    else:
        yield Check(
            "guards",
            "ok",
            "grants, minting, owners, labels, receipts and revocations are guarded by the API server itself",
        )


def _webhooks(kube: Kube, system_namespace: str) -> Iterator[Check]:
    base = "/apis/admissionregistration.k8s.io/v1"
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        try:
            found = kube.get(f"{base}/{plural}/{WEBHOOK_CONFIGURATION}", dict[str, Any])
        except ApiError as error:
            if error.status != 404:
                raise
            yield Check(
                plural, "fail", "not there", "the controller writes it once a gate answers: see the controller's log"
            )
            continue
        entries = found.get("webhooks", [])
        closed = sum(1 for entry in entries if entry.get("failurePolicy") == "Fail")
        yield Check(plural, "ok", f"{len(entries)} entries, {closed} of them fail closed")
        for bundle in {entry["clientConfig"].get("caBundle", "") for entry in entries}:
            yield _ca(plural, bundle)


def _ca(where: str, bundle: str) -> Check:
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(base64.b64decode(bundle))
    except ValueError:
        return Check(
            "certificates", "fail", f"{where} holds no usable caBundle", "restart the controller, which writes it anew"
        )
    latest = max(certificate.not_valid_after_utc for certificate in certificates)
    left = latest - datetime.now(UTC)
    if left <= timedelta(0):
        return Check(
            "certificates", "fail", f"the CA in {where} expired at {latest:%Y-%m-%d}", "is the controller running?"
        )
    if left < EXPIRY_WARNING:
        return Check(
            "certificates",
            "warn",
            f"the CA in {where} expires in {left.days} days",
            "the controller should have renewed it: see its log",
        )
    return Check("certificates", "ok", f"the CA in {where} is good until {latest:%Y-%m-%d}")


def _gate_answers(kube: Kube, system_namespace: str) -> Iterator[Check]:
    """A server-side dry run of a pod in a governed namespace goes through the gate and leaves nothing behind."""
    namespace = next(iter(_governed_namespaces(kube, system_namespace)), None)
    if namespace is None:
        yield Check("gate", "ok", "no namespace is governed, so the API server has no reason to call the gate")
        return
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "countersign-doctor-"},
        "spec": {"containers": [{"name": "probe", "image": "countersign.invalid/doctor:probe"}]},
    }
    try:
        created = kube.create(f"/api/v1/namespaces/{namespace}/pods", probe, dry_run=True)
    except ApiError as error:
        if "failed calling webhook" in error.message:
            yield Check(
                "gate",
                "fail",
                f"the API server cannot reach the gate: {error.message}",
                "are the gate's pods ready, its Service and network policy right?",
            )
        elif "denied the request" in error.message and GROUP in error.message:
            yield Check(
                "gate", "ok", f"the API server reaches the gate (a dry run in {namespace} was denied, as it should be)"
            )
        else:
            yield Check(
                "gate",
                "warn",
                f"a dry run in {namespace} ended otherwise: {error.message}",
                "run this as somebody who may create pods there",
            )
        return
    judged = f"{GROUP}/receipt" in created.get("metadata", {}).get("annotations", {})
    if judged:
        yield Check("gate", "ok", f"the API server reaches the gate (a dry run in {namespace} was judged)")
    else:
        yield Check(
            "gate",
            "fail",
            f"a dry run in {namespace} was admitted without the gate's judgement",
            "see the webhook configurations and the gate's log",
        )


def _lease(kube: Kube, system_namespace: str) -> Iterator[Check]:
    lease = kube.get(f"/apis/coordination.k8s.io/v1/namespaces/{system_namespace}/leases/{LEASE_NAME}", dict[str, Any])
    renewed = clock.parse(lease["spec"]["renewTime"])
    age = datetime.now(UTC) - renewed
    holder = lease["spec"].get("holderIdentity") or "nobody"
    if age > LEASE_LIMIT:
        yield Check(
            "controller",
            "fail",
            f"its Lease (held by {holder}) was last renewed {age.total_seconds():.0f} s ago",
            "start the controller: until then the verifier answers 503",
        )
    else:
        yield Check(
            "controller", "ok", f"{holder} leads, and renewed its Lease {max(age.total_seconds(), 0):.1f} s ago"
        )


def _versions(kube: Kube, system_namespace: str) -> Iterator[Check]:
    base = f"/apis/apps/v1/namespaces/{system_namespace}/deployments"
    running: dict[str, str] = {}
    for deployment in kube.items(base, dict[str, Any], labelSelector="app.kubernetes.io/part-of=countersign"):
        labels = deployment["metadata"].get("labels", {})
        running[labels.get("app.kubernetes.io/component", deployment["metadata"]["name"])] = labels.get(
            "app.kubernetes.io/version", "unknown"
        )
    if not running:
        yield Check(
            "versions",
            "warn",
            f"no Deployment of Countersign in {system_namespace}",
            "pass --system-namespace if it is installed elsewhere",
        )
        return
    absent = [name for name in SERVICES if name not in running]
    if absent:
        yield Check("versions", "fail", f"no Deployment for: {', '.join(absent)}", "install or upgrade the chart")
    differing = sorted(f"{name} {version}" for name, version in running.items() if version != __version__)
    if differing:
        yield Check(
            "versions",
            "warn",
            f"this command is {__version__}, but: {', '.join(differing)}",
            "use the same version, or upgrade the chart",
        )
    elif not absent:
        yield Check("versions", "ok", f"all services are {__version__}")


def _policies(kube: Kube, system_namespace: str) -> Iterator[Check]:
    total = 0
    troubled = 0
    for kind in (ClusterTrustPolicy, TrustPolicy, ProtectedAudience):
        for resource in kube.items(collection(kind), kind):
            total += 1
            # ImpactHeld is the one condition that is trouble when it holds.
            bad = [c for c in resource.status.conditions if c.status == ("True" if c.type == "ImpactHeld" else "False")]
            name = "/".join(filter(None, (resource.metadata.namespace, resource.metadata.name)))
            ready = condition(resource.status.conditions, "Ready")
            for trouble in bad:
                troubled += 1
                yield Check(
                    f"{resource.KIND} {name}",
                    "fail",
                    f"{trouble.type}={trouble.status} {trouble.reason}: {trouble.message}",
                    "mend what it names",
                )
            if not bad and (ready is None or resource.status.observed_generation < resource.metadata.generation):
                troubled += 1
                yield Check(
                    f"{resource.KIND} {name}",
                    "warn",
                    "the controller has not judged it yet",
                    "is the controller running?",
                )
    if not troubled:
        yield Check("policies", "ok", f"{total} policies and audiences, none with trouble")


def _ungoverned(kube: Kube, system_namespace: str) -> Iterator[Check]:
    governed = set(_governed_namespaces(kube, system_namespace))
    names = {n.metadata.name for n in kube.items("/api/v1/namespaces", Namespace)}
    bare = sorted(names - governed - set(EXEMPT_NAMESPACES) - {system_namespace})
    if bare:
        yield Check(
            "coverage",
            "warn",
            f"nothing governs {len(bare)} namespace(s): {', '.join(bare[:10])}{' ...' if len(bare) > 10 else ''}",
            "pods there are admitted unjudged and have no identity; write a policy if they should",
        )
    else:
        yield Check("coverage", "ok", f"every namespace is governed ({len(governed)})")


def _governed_namespaces(kube: Kube, system_namespace: str) -> list[str]:
    selectors = [
        p.spec.match.namespace_selector for p in kube.items(collection(ClusterTrustPolicy), ClusterTrustPolicy)
    ]
    own = {p.metadata.namespace for p in kube.items(collection(TrustPolicy), TrustPolicy)}
    exempt = {*EXEMPT_NAMESPACES, system_namespace}
    return [
        n.metadata.name
        for n in kube.items("/api/v1/namespaces", Namespace)
        if n.metadata.name not in exempt
        and (n.metadata.name in own or any(selector.matches(n.metadata.labels) for selector in selectors))
    ]
