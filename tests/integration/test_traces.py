"""Traces: one trace from the API server through the gate to its registries; what each service tells a collector."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import yaml

from countersign.runtime.tracing import export
from countersign.runtime.tracing.environment import Target
from countersign.runtime.tracing.export import Exporter
from countersign.runtime.tracing.recording import RecordingTracer
from countersign.runtime.tracing.spans import Value, child
from tests.lab import builder
from tests.lab.collector import GROUP, Collector, Span
from tests.lab.lab import Lab
from tests.lab.processes import Processes
from tests.lab.waiting import wait_for
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def collector(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    if builder.missing([GROUP]) and os.environ.get("COUNTERSIGN_LAB") == "off":
        pytest.skip("COUNTERSIGN_LAB=off and the collector is not built")
    with Processes() as processes:
        yield Collector(tmp_path_factory.mktemp("collector"), processes)


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Countersign with its tracing on, under an API server that has its own on, and keeps every trace."""
    config = tmp_path_factory.mktemp("apiserver") / "tracing.yaml"
    told = {"endpoint": collector.grpc, "samplingRatePerMillion": 1_000_000}
    kind = {"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "TracingConfiguration"}
    config.write_text(yaml.safe_dump(kind | told))
    with Lab.start(apiserver_flags=[f"--tracing-config-file={config}"]) as lab, Installation(lab) as installation:
        installation.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "COUNTERSIGN_TRACE_RATIO": "1"}
        installation.install()
        installation.start_all()
        yield govern(installation)


async def test_what_we_write_is_read_by_the_official_definitions(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FLUSH_SECONDS", 30.0)
    counted: dict[str, int] = {}
    target = Target(f"{collector.url}/v1/traces", gzip=True)
    told: dict[str, Value] = {"text": "ä" * 300, "yes": True, "no": False, "below": -5, "large": 2**40, "share": 0.25}
    async with Exporter(target, {"service.name": "encoder"}, "1", counted.__setitem__, delay=60.0) as sink:
        tracer = RecordingTracer(1.0, sink)
        for number in range(200):  # more than are encoded at once
            with tracer.root("written", kind="server") as span, child("below"):
                span.set(told | {"number": number})

    def written() -> list[Span]:
        found = [one for one in collector.spans("written") if one.service == "encoder"]
        return found if len(found) >= 200 else []

    spans = wait_for(written, what=f"the collector has written 200 spans ({counted})")
    assert sorted(int(one.attributes.pop("number")) for one in spans) == list(range(200))
    expected = told | {"below": "-5", "large": str(2**40)}  # OTLP/JSON writes 64-bit integers as text
    assert all(one.attributes == expected for one in spans)
    assert {one.kind for one in spans} == {"SPAN_KIND_SERVER"}
    parents = {one.parent_id for one in collector.spans("below") if one.service == "encoder"}
    assert parents == {one.span_id for one in spans}


def found(governed: Governed, collector: Collector, name: str, **attributes: str) -> Span:
    """The span of that name with these attributes, once the collector has it."""
    wanted = {key.replace("__", "."): value for key, value in attributes.items()}

    def probe() -> Span | None:
        return next((one for one in collector.spans(name) if wanted.items() <= one.attributes.items()), None)

    span: Span = governed.lab.wait_for(probe, what=f"a span {name} {wanted}")
    return span


def test_one_trace_joins_the_api_server_the_gate_its_verdict_and_its_registries(
    traced: Governed, collector: Collector
) -> None:
    pod = traced.admitted()
    name = pod["metadata"]["name"]
    review = found(traced, collector, "gate.review", k8s__object__name=name, countersign__path="/mutate")
    assert review.service == "countersign-gate"
    assert review.kind == "SPAN_KIND_SERVER"
    assert review.attributes["countersign.result"] == "allowed"
    assert review.attributes["k8s.namespace.name"] == traced.namespace

    def whole() -> dict[str, Span] | None:
        spans = {one.span_id: one for one in collector.spans() if one.trace_id == review.trace_id}
        # The API server sends its own in batches: until the span that called the gate is there.
        return spans if review.parent_id in spans else None

    spans = traced.lab.wait_for(whole, what="the API server's half of the trace")
    assert spans[review.parent_id].service == "apiserver"
    below = [one for one in spans.values() if one.parent_id == review.span_id]
    assert {one.name for one in below} >= {"gate.evidence", "gate.judge"}
    evidence = next(one for one in below if one.name == "gate.evidence")
    assert evidence.attributes["countersign.outcome"] == "asked"
    assert traced.image.by_tag in evidence.attributes["countersign.image"]
    asked = {one.name for one in spans.values() if one.name.startswith("registry.")}
    assert {"registry.resolve", "registry.referrers"} <= asked


def test_what_the_controller_writes_of_a_grant_is_a_trace_with_its_keys(traced: Governed, collector: Collector) -> None:
    pod = traced.running()
    uid = pod["metadata"]["uid"]
    written = found(traced, collector, "grant.status", k8s__pod__uid=uid, countersign__state="Active")
    grant = traced.countersign.grant_of(pod)["metadata"]
    assert written.attributes["countersign.grant"] == f"{grant['namespace']}/{grant['name']}"
    assert written.attributes["countersign.reason"] == "Admitted"
    root = found(traced, collector, "controller.reconcile", k8s__pod__uid=uid)
    assert root.service == "countersign-controller"
    assert not root.parent_id
    # A reconcile that wrote nothing is not worth a trace.
    parents = {one.parent_id for one in collector.spans() if one.service == "countersign-controller"}
    assert {one.span_id for one in collector.spans("controller.reconcile")} <= parents


def test_a_relying_partys_trace_goes_on_in_the_verifier(traced: Governed, collector: Collector) -> None:
    pod = traced.running()
    token = traced.token(pod)
    answer = traced.countersign.verifier_client().request(
        "POST",
        "/introspect",
        f"token={token}".encode(),
        headers={"Authorization": f"Bearer {traced.asker}", "traceparent": f"00-{CALLER}-00f067aa0ba902b7-01"},
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.body["active"] is True
    span = found(traced, collector, "verifier.introspect", k8s__pod__uid=pod["metadata"]["uid"])
    assert (span.trace_id, span.parent_id) == (CALLER, "00f067aa0ba902b7")
    assert span.attributes["countersign.reason"] == "Active"
    assert span.attributes["countersign.jti"] == answer.body["jti"]
    assert span.attributes["countersign.audience"] == traced.audience


def test_of_a_strangers_question_the_reason_alone_is_told(traced: Governed, collector: Collector) -> None:
    token = traced.token(traced.running())
    trace = "a" * 32
    traced.countersign.verifier_client().request(
        "POST", "/introspect", f"token={token}".encode(),
        headers={"Authorization": "Bearer nonsense", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        content_type="application/x-www-form-urlencoded",
    )  # fmt: skip

    def probe() -> Span | None:
        return next((one for one in collector.spans("verifier.introspect") if one.trace_id == trace), None)

    span = traced.lab.wait_for(probe, what="the stranger's span")
    assert set(span.attributes) == {"countersign.active", "countersign.reason"}


def test_no_span_holds_a_token_or_a_receipt(traced: Governed, collector: Collector) -> None:
    pod = traced.running()
    token = traced.token(pod)
    assert traced.active(token)
    found(traced, collector, "verifier.introspect", k8s__pod__uid=pod["metadata"]["uid"])
    ours = [one for one in collector.spans() if one.service.startswith("countersign-")]
    said = "\n".join(f"{key}={value}" for one in ours for key, value in one.attributes.items())
    assert said
    assert not re.search(r"eyJ[A-Za-z0-9_-]{8,}", said), "that is how each JWS begins"
