"""While admission is paused no pod is refused, none gets an identity, and the verdict is told all the same."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.api.names import MIRROR_ANNOTATION, RECEIPT_ANNOTATION
from tests.unit.gate.workbench import NOW, Json, Workbench, changed, patched, pod, receipt_of
from tests.unit.trust import build

TOKENS = (build.token(),)


def opened(**pause: Any) -> Workbench:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    bench.pause(build.pause(**pause))
    return bench


async def through(bench: Workbench, thing: Json) -> tuple[Json, list[str]]:
    """The pod that is stored, and what its author is told."""
    final = patched(thing, await bench.mutate(thing))
    answer = await bench.validate(final)
    assert answer.allowed, answer.message
    assert answer.patch is None
    return final, list(answer.warnings)


async def test_what_would_be_refused_is_admitted_and_told() -> None:
    bench = opened()
    bench.registries.found[build.TAGGED] = build.unsigned()
    final, warnings = await through(bench, pod())
    assert final == pod()
    assert warnings[0] == (
        "countersign: AdmissionPause pause-1 ends at 2026-03-01T12:30:00Z: admitted without identity"
    )
    assert warnings[1].startswith("would have been refused: ImageUnsigned")


async def test_what_would_be_admitted_comes_in_as_it_is_without_token_or_receipt() -> None:
    final, warnings = await through(opened(), pod())
    assert final == pod()
    assert len(warnings) == 1


async def test_a_receipt_of_the_authors_is_removed() -> None:
    forged = pod()
    forged["metadata"]["annotations"] = {RECEIPT_ANNOTATION: "forged", "mine": "stays"}
    bench = opened()
    final, _ = await through(bench, forged)
    assert receipt_of(final) == ""
    assert final["metadata"]["annotations"] == {"mine": "stays"}
    assert bench.count("receipts", outcome="removed") == 1


async def test_the_audit_log_names_the_pause_its_asker_and_its_end() -> None:
    bench = opened()
    answer = await bench.validate(pod())
    assert answer.reason == "Paused"
    assert answer.audit["paused"] == (
        "AdmissionPause pause-1 by night-shift until 2026-03-01T12:30:00Z: the registry is down"
    )
    assert answer.audit["verdict"] == "allow"
    assert "audiences" not in answer.audit


async def test_a_registry_that_does_not_answer_keeps_nobody_out() -> None:
    bench = opened()
    bench.registries.found[build.TAGGED] = build.unverifiable()
    final, warnings = await through(bench, pod())
    assert final == pod()
    assert any("VerificationTimeout" in one for one in warnings)


async def test_a_defect_of_ours_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = opened()

    async def broken(*_: Any) -> Any:
        raise RuntimeError("defect")

    monkeypatch.setattr(bench.registries, "gather", broken)
    _, warnings = await through(bench, pod())
    assert "an error of its own" in warnings[1]


async def test_an_update_that_would_be_refused_is_admitted() -> None:
    bench = Workbench(build.cluster_policy(tokens=TOKENS))
    old = await bench.admitted(pod())
    unsigned = f"{build.REPOSITORY}:evil"
    bench.registries.found[unsigned] = build.unsigned(digest=build.OTHER_DIGEST)
    new = changed(old, containers=[{**old["spec"]["containers"][0], "image": unsigned}])
    assert not (await bench.validate(new, old=old)).allowed
    bench.pause(build.pause())
    assert (await bench.mutate(new, old=old)).patch is None
    answer = await bench.validate(new, old=old)
    assert answer.allowed
    assert answer.warnings[0].endswith(": let through")
    assert any("would have been refused: ImageUnsigned" in one for one in answer.warnings)


async def test_when_its_time_is_over_the_door_is_shut() -> None:
    bench = opened(expires="2026-03-01T12:00:01Z")
    bench.registries.found[build.TAGGED] = build.unsigned()
    assert (await bench.mutate(pod())).allowed
    bench.wall = NOW.replace(second=1)
    assert not (await bench.mutate(pod())).allowed


async def test_what_passes_for_the_shadow_of_a_static_pod_is_refused_as_ever() -> None:
    forged = pod()
    forged["metadata"]["annotations"] = {MIRROR_ANNOTATION: "x"}
    bench = opened()
    assert (await bench.mutate(forged)).reason == "MirrorForged"
    assert (await bench.validate(forged)).reason == "MirrorForged"


async def test_a_pod_that_nothing_governs_hears_nothing_of_it() -> None:
    bench = Workbench()
    bench.pause(build.pause())
    answer = await bench.validate(pod())
    assert (answer.reason, answer.warnings) == ("NotGoverned", ())


async def test_the_metric_says_that_it_is_open() -> None:
    bench = opened()
    bench.metrics.paused(lambda: bench.state.paused(bench.wall) is not None)
    assert bench.registry.get_sample_value("countersign_admission_paused") == 1
    bench.wall = NOW.replace(hour=13)
    assert bench.registry.get_sample_value("countersign_admission_paused") == 0
