"""Check of EvidenceRoots: is there content to go by, is it still being refreshed, does something run out soon."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from countersign.api.clock import parse
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.meta import condition
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.check import Check, Cluster, Result

SOON: Final = timedelta(days=30)


def evidence_roots(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """Whether each EvidenceRoot can be used, and was refreshed when it last should have been."""
    found = list(cluster.items(collection(EvidenceRoot), EvidenceRoot))
    troubled = 0
    for one in found:
        check = _trouble(one)
        if check is not None:
            troubled += 1
            yield check
    if not found:
        yield Check(
            "evidence roots", "ok", "none: keyless signatures go back to the public-good Sigstore of this release"
        )
    elif not troubled:
        yield Check("evidence roots", "ok", f"{len(found)} evidence roots, none with trouble")


def _trouble(root: EvidenceRoot) -> Check | None:
    name, status = f"EvidenceRoot {root.metadata.name}", root.status
    describe = f"kubectl describe evidenceroot {root.metadata.name}"
    if not status.conditions or status.observed_generation < root.metadata.generation:
        return Check(name, "warn", "the controller has not judged its present state", "is the controller running?")
    for kind in ("Accepted", "Ready", "Refreshed"):
        found = condition(status.conditions, kind)
        if found is not None and found.status == "False":
            # The last good content stays in use when a refresh fails.
            result: Result = "warn" if kind == "Refreshed" else "fail"
            return Check(name, result, f"{kind}=False {found.reason}: {found.message}", describe)
    if status.earliest_expiry is not None and parse(status.earliest_expiry) - datetime.now(UTC) < SOON:
        what = f"a certificate or log in it runs out at {status.earliest_expiry}"
        return Check(name, "warn", what, "bring a newer trusted_root.json before (docs/evidence-roots.md)")
    return None
