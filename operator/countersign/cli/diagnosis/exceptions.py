"""Check of the TrustExceptions: which run out soon, and which name no policy that exists."""

from collections.abc import Iterator
from datetime import UTC, datetime

from countersign.api.clock import format_time
from countersign.api.exception import TrustException
from countersign.api.meta import condition
from countersign.cli.cluster.paths import collection
from countersign.cli.diagnosis.check import Check, Cluster
from countersign.trust.orders.exceptions import in_force_until, warns_at


def exceptions(cluster: Cluster, _system_namespace: str) -> Iterator[Check]:
    """How many are in force; one line for each that needs somebody."""
    now = datetime.now(UTC)
    active = 0
    for one in cluster.items(collection(TrustException), TrustException):
        until, warn = in_force_until(one, now), warns_at(one)
        if until is None or warn is None:
            continue
        active += 1
        name, owner = one.metadata.name, one.spec.owner
        if warn <= now:
            found = (
                f"TrustException {name} of {owner} ends at {format_time(until)}, with {one.status.pods} pods under it"
            )
            remedy = f"mend what it waives (countersign grants --exception {name}), or create another"
            yield Check("exceptions", "warn", found, remedy)
        refs = condition(one.status.conditions, "ResolvedRefs")
        if refs is not None and refs.status == "False":
            yield Check("exceptions", "warn", f"TrustException {name} of {owner}: {refs.message}", "end it")
    yield Check("exceptions", "ok", f"{active} in force")
