"""The gate counts each new pod once for each policy, whatever becomes of it."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from countersign.api.policy_status import GateTally
from countersign.gate.tallies import MAX_POLICIES, Tallies
from countersign.trust.verdicts.verdict import Verdict
from tests.unit.gate.workbench import NOW, Workbench, changed, patched, pod
from tests.unit.trust import build


def tally_of(bench: Workbench, name: str = "payments") -> GateTally:
    found = [one for one in bench.tallies.report().policies if one.uid == f"uid-{name}"]
    return found[0].tally if found else GateTally(gate="")


def numbers(tally: GateTally) -> tuple[int, int, int]:
    return tally.allowed, tally.would_deny, tally.unknown


@pytest.mark.parametrize("mode", ["Audit", "Warn", "Enforce"])
async def test_a_pod_is_counted_whatever_the_mode(mode: str) -> None:
    bench = Workbench(build.cluster_policy(mode=mode))
    await bench.mutate(pod())
    bench.registries.found[build.TAGGED] = build.unsigned()
    answer = await bench.mutate(pod())
    assert answer.allowed is (mode != "Enforce")
    found = tally_of(bench)
    assert numbers(found) == (1, 1, 0)
    assert [(one.reason, one.count) for one in found.reasons] == [("ImageUnsigned", 1)]


async def test_a_registry_that_does_not_answer_is_counted_apart() -> None:
    bench = Workbench(build.cluster_policy())
    bench.registries.found[build.TAGGED] = build.unverifiable()
    await bench.mutate(pod())
    assert numbers(tally_of(bench)) == (0, 0, 1)


async def test_one_request_counts_once_however_many_entries_cover_it() -> None:
    bench = Workbench(build.cluster_policy(), build.cluster_policy("mesh"))
    once = patched(pod(), await bench.mutate(pod()))
    twice = patched(once, await bench.mutate(once))
    assert (await bench.validate(twice)).allowed
    assert (await bench.validate(twice)).allowed
    assert numbers(tally_of(bench)) == (1, 0, 0)
    assert numbers(tally_of(bench, "mesh")) == (1, 0, 0)


async def test_a_pod_that_others_changed_meanwhile_counts_once() -> None:
    bench = Workbench(build.cluster_policy())
    made = patched(pod(), await bench.mutate(pod()))
    sidecar = changed(made, containers=[*made["spec"]["containers"], build.container("proxy")])
    await bench.mutate(sidecar)
    assert numbers(tally_of(bench)) == (1, 0, 0)


async def test_a_receipt_of_another_namespace_or_of_the_authors_own_hides_nobody() -> None:
    bench = Workbench(build.cluster_policy())
    made = pod()
    made["metadata"]["annotations"] = {"countersign.dev/receipt": "x.y.z"}
    await bench.mutate(made)
    assert numbers(tally_of(bench)) == (1, 0, 0)


async def test_a_dry_run_does_not_count() -> None:
    bench = Workbench(build.cluster_policy())
    await bench.mutate(pod(), dryRun=True)
    assert bench.tallies.report().policies == ()


async def test_a_pod_that_no_policy_governs_does_not_count() -> None:
    bench = Workbench(build.cluster_policy(pods={"app": "other"}))
    await bench.mutate(pod())
    assert bench.tallies.report().policies == ()


async def test_what_is_admitted_during_a_pause_does_not_count() -> None:
    bench = Workbench(build.cluster_policy())
    bench.pause(build.pause())
    await bench.mutate(pod())
    assert bench.tallies.report().policies == ()


def _with_generation(generation: int, name: str = "payments") -> Verdict:
    policy = build.cluster_policy(name)
    changed_ = msgspec.structs.replace(policy, ref=policy.ref._replace(generation=generation))
    return build.judged(build.snapshot(changed_))


def test_a_change_of_the_policy_starts_the_count_anew_and_what_comes_late_is_left_out() -> None:
    tallies = Tallies(NOW)
    for generation in (1, 1, 2, 1):
        tallies.count(_with_generation(generation), build.subject(), unresolved=False)
    (found,) = tallies.report().policies
    assert (found.generation, found.tally.allowed) == (2, 1)


def test_policies_that_are_gone_do_not_pile_up() -> None:
    tallies = Tallies(NOW)
    for number in range(MAX_POLICIES + 3):
        tallies.count(_with_generation(1, f"p{number}"), build.subject(), unresolved=False)
    assert len(tallies.report().policies) == MAX_POLICIES


def test_names_of_gates_stand_in_the_order_of_their_starts() -> None:
    first, second = Tallies(NOW), Tallies(NOW + timedelta(milliseconds=1))
    assert first.gate < second.gate
    assert Tallies(NOW).gate != first.gate
