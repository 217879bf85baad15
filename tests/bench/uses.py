"""What it costs to say when a grant was last used: at the verifier, in the controller, in etcd.

In one thread of one process, times are CPU time, so that whatever else runs on the machine does not count.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable

import msgspec
import structlog
from rich.table import Table

from countersign.api.grant import GrantMisuse, GrantUses, VerifierRefusals, WorkloadGrant
from countersign.api.meta import ObjectMeta
from countersign.api.objects import to_object
from countersign.api.verifier_calls import UsesQuestion, UsesReport
from countersign.verifier.records import Record
from countersign.verifier.uses import Uses
from tests.unit.access import cases
from tests.unit.controller.cluster import Cluster
from tests.unit.grants.build import BORN, at, stamp
from tests.unit.verifier.answers import START, Seen, answered

PODS = 10_000
CALLS = 100_000
ROUNDS = 5
SIMULATED_PODS = 50
SIMULATED_HOURS = 3
USE_SECONDS = 10
COLLECT_SECONDS = 5
RECORD_SECONDS = 600


def measure(say: Callable[[str], None]) -> Table:
    """The recorder against a recorder that does nothing, in the same loop."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    table = Table(title="Uses: at the verifier, in the controller, in etcd")
    for column in ("", "figure"):
        table.add_column(column, justify="left" if not column else "right")
    say("recorder")
    same, told = answered(), answered(address="10.0.0.7")
    many = [answered(uid=f"pod-{number}", address="10.0.0.7") for number in range(PODS)]
    nothing = _per_call(lambda _: None, [same])
    for name, records in {
        "one pod, no address told": [same],
        "one pod, address told": [told],
        f"{PODS:,} pods in turn": many,
    }.items():
        spent = _per_call(Uses(START), records) - nothing
        table.add_row(f"recorder, {name}, us of CPU an answer", f"{spent:.2f}")
    uses, size = _filled(many)
    table.add_row(f"verifier's memory for {PODS:,} pods, MiB", f"{size:.1f}")
    say("reports")
    table.add_row(f"report of all {PODS:,}: pages, the longest ms of one, MB", _reports(uses))
    table.add_row(f"controller's round with all {PODS:,} anew, ms; its memory, MiB", asyncio.run(_round(uses)))
    say("state")
    for name, size_of in _state().items():
        table.add_row(f"bytes in a grant: {name}", f"{size_of:,}")
    say(f"{SIMULATED_HOURS} h of {SIMULATED_PODS} pods, a use each {USE_SECONDS} s")
    table.add_row("writes for uses alone, for a pod and hour", f"{asyncio.run(_writes()):.2f}")
    table.caption = (
        f"a recorder that does nothing takes {nothing:.2f} us in the same loop; useRecordSeconds {RECORD_SECONDS}"
    )
    return table


def _per_call(recorder: Callable[[Record], None], records: list[Record]) -> float:
    """Microseconds, the median of some rounds."""
    loop = (records * (CALLS // len(records)))[:CALLS]
    found = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for record in loop:
            recorder(record)
        found.append((time.thread_time() - began) / CALLS * 1e6)
    return statistics.median(found)


def _filled(records: list[Record]) -> tuple[Uses, float]:
    gc.collect()
    tracemalloc.start()
    uses = Uses(START)
    for record in records:
        uses(record)
    size = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    return uses, size


def _reports(uses: Uses) -> str:
    known: dict[str, int] = {}
    times, total = [], 0
    while True:
        began = time.thread_time()
        report = uses.report(UsesQuestion(known=known))
        total += len(msgspec.json.encode(report))
        times.append((time.thread_time() - began) * 1000)
        known[report.verifier] = report.cursor
        if not report.more:
            return f"{len(times)}, {max(times):.1f}, {total / 1e6:.1f}"


async def _round(uses: Uses) -> str:
    cluster = Cluster()
    for number in range(PODS):
        made = cases.grant()
        pod = msgspec.structs.replace(made.spec.pod, uid=f"pod-{number}")
        meta = ObjectMeta(
            name=f"wg-{number}", namespace="payments", uid=f"wg-{number}", resource_version=str(cluster.version())
        )
        cluster.see(WorkloadGrant(metadata=meta, spec=msgspec.structs.replace(made.spec, pod=pod), status=made.status))
    known: dict[str, int] = {}
    while True:
        report = uses.report(UsesQuestion(known=known))
        # As it comes over the wire: names are not shared with anything.
        cluster.reported.append(msgspec.json.decode(msgspec.json.encode(report), type=UsesReport))
        known[report.verifier] = report.cursor
        if not report.more:
            break
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    reported, cluster.reported = cluster.reported, []
    cluster.reported = [msgspec.json.decode(msgspec.json.encode(one), type=UsesReport) for one in reported]
    await cluster.uses.collect()
    size = (tracemalloc.get_traced_memory()[0] - before) / 2**20
    tracemalloc.stop()
    cluster.reported = reported
    began = time.thread_time()
    await cluster.uses.collect()
    return f"{(time.thread_time() - began) * 1000:.0f}; {size:.1f}"


def _state() -> dict[str, int]:
    plain = cases.grant()
    uses = GrantUses(first_used_at=stamp(0), last_used_at=stamp(60), audiences=(cases.AUDIENCE,))
    verifiers = tuple(VerifierRefusals(verifier=Seen(number).uses.name, count=12) for number in range(2))
    refused = msgspec.structs.replace(
        uses, refused=24, refused_by=verifiers, last_refused_at=stamp(90), last_refused_reason="TokenExpired"
    )
    found = GrantMisuse(
        kind="OtherAddress", audience=cases.AUDIENCE, at=stamp(30),
        message=f"A token for {cases.AUDIENCE} was used at {stamp(30)} from 10.0.0.9 (told by ledger/api). "
        "The pod has 10.0.0.7.",
    )  # fmt: skip

    def size(**status: object) -> int:
        changed = msgspec.structs.replace(plain, status=msgspec.structs.replace(plain.status, **status))
        return len(msgspec.json.encode(to_object(changed)))

    whole = size()
    return {
        "the grant itself, with one image": whole,
        "used": size(uses=uses) - whole,
        "used, and refused by two verifiers": size(uses=refused) - whole,
        "one misuse": size(misuse=(found,)) - whole,
    }


async def _writes() -> float:
    """Pods in steady use, a real verifier's memory, a real keeper, reconciled as they are woken."""
    cluster = Cluster()
    uids = [f"pod-{number}" for number in range(SIMULATED_PODS)]
    for uid in uids:
        cluster.admit(uid)
    await cluster.survey()
    seen, known = Seen(), {"": 0}
    zero = START.timestamp() - BORN.timestamp()
    writes = cluster.store.writes
    for seconds in range(60, SIMULATED_HOURS * 3600, COLLECT_SECONDS):
        for number, uid in enumerate(uids):
            if (seconds + number) % USE_SECONDS < COLLECT_SECONDS:
                seen.at(seconds - zero, answered(uid=uid, address="10.0.0.7"))
        cluster.now = at(seconds)
        report = seen.uses.report(UsesQuestion(known=known))
        known[report.verifier] = report.cursor
        cluster.reported = [report]
        await cluster.uses.collect()
        woken, cluster.woken[:] = list(cluster.woken), []
        for uid in woken:
            await cluster.settle(uid)
    return (cluster.store.writes - writes) / SIMULATED_PODS / SIMULATED_HOURS
