"""Checks of the API server: reachable, clocks, our kinds, and the guards that work with every process of ours down."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from countersign.api.names import GROUP
from countersign.api.objects import KINDS
from countersign.cli.diagnosis.check import Anything, Check, Cluster

SKEW_LIMIT: Final = timedelta(seconds=5)
"""A receipt is accepted within seconds of its pod's creation, so clocks must agree about as well."""
GUARDS: Final = (
    "crds",
    "exceptions",
    "grants",
    "minting",
    "namespace-labels",
    "owners",
    "owners-namespaced",
    "pauses",
    "receipts",
    "reserved-labels",
    "revocations",
)
"""ValidatingAdmissionPolicies of the chart, without their prefix `countersign-`."""
BY_CHOICE: Final = ("node-proxy",)
"""Those that a value of the chart turns off."""

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"


def api_server(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether it answers, and whether its clock and ours agree."""
    before = datetime.now(UTC)
    version, date = cluster.version()
    yield Check("API server", "ok", f"Kubernetes {version}")
    if not date:
        return
    # The header has whole seconds, and was written somewhere between our two looks at the clock.
    skew = abs(parsedate_to_datetime(date) - before)
    if skew > SKEW_LIMIT:
        found = f"this machine and the API server differ by {skew.total_seconds():.0f} s"
        yield Check("clocks", "warn", found, "set the clocks by NTP")
    else:
        yield Check("clocks", "ok", f"within {SKEW_LIMIT.total_seconds():.0f} s of the API server")


def kinds(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether our CRDs are established."""
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    missing = []
    for kind in KINDS:
        found = cluster.find(f"{base}/{kind.PLURAL}.{GROUP}", Anything)
        conditions = found.status.get("conditions", ()) if found else ()
        if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            missing.append(kind.KIND)
    if missing:
        yield Check("kinds", "fail", f"not there: {', '.join(missing)}", "install the chart's CRDs")
    else:
        yield Check("kinds", "ok", f"{len(KINDS)} kinds established")


def guards(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether the chart's ValidatingAdmissionPolicies are there and deny."""
    policies = {one.metadata.name for one in cluster.items(f"{_ADMISSION}/validatingadmissionpolicies", Anything)}
    denying = {
        one.spec.get("policyName")
        for one in cluster.items(f"{_ADMISSION}/validatingadmissionpolicybindings", Anything)
        if "Deny" in one.spec.get("validationActions", ())
    }
    missing = [name for name in GUARDS if f"countersign-{name}" not in policies & denying]
    off = [name for name in BY_CHOICE if f"countersign-{name}" not in policies & denying]
    if missing:
        found = f"no ValidatingAdmissionPolicy that denies: {', '.join(f'countersign-{name}' for name in missing)}"
        yield Check("guards", "fail", found, "install or upgrade the chart")
    elif off:
        found = "countersign-node-proxy is off: whoever may use nodes/proxy goes into pods, and nobody is told"
        yield Check("guards", "warn", found, "set guards.nodeProxy of the chart")
    else:
        yield Check("guards", "ok", f"{len(GUARDS + BY_CHOICE)} guards hold with every process of Countersign down")
