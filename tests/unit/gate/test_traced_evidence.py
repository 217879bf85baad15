"""What a review's trace has of its evidence, and that registries hear nothing of it."""

from aiohttp import web
from prometheus_client import CollectorRegistry

from countersign.gate.evidence.traced import TracedEvidence
from countersign.runtime.tracing.recording import RecordingTracer
from countersign.runtime.tracing.spans import Span
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import SIGNER, ask, facts, refusal, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_the_evidence_of_an_image_stands_in_the_trace_and_nothing_of_it_in_what_registries_are_sent(
    one_registry: FakeRegistry, ca: CertificateAuthority
) -> None:
    headers: list[str] = []

    async def listen(request: web.Request) -> None:
        headers.extend(name.lower() for name in request.headers)

    one_registry.misbehave = listen
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    spans: list[Span] = []
    tracer = RecordingTracer(1.0, spans.append)
    async with serving(ca, observer=TracedEvidence(CollectorRegistry())) as service:
        with tracer.root("gate.review", f"00-{TRACE}-00f067aa0ba902b7-01"):
            await facts(service, ask(one_registry, "team/app:v1"))
    (evidence,) = [span for span in spans if span.name == "gate.evidence"]
    assert evidence.attributes == {
        "countersign.image": f"{one_registry.host}/team/app:v1",
        "countersign.outcome": "asked",
    }
    below = [span for span in spans if span.name.startswith("registry.")]
    assert {span.parent_id for span in below} == {evidence.span_id}
    assert {"registry.resolve", "registry.referrers"} <= {span.name for span in below}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert headers
    assert not {"traceparent", "tracestate", "baggage"} & set(headers)


async def test_what_could_not_be_found_out_says_why(one_registry: FakeRegistry, ca: CertificateAuthority) -> None:
    spans: list[Span] = []
    tracer = RecordingTracer(1.0, spans.append)
    async with serving(ca) as service:
        with tracer.root("gate.review"):
            await refusal(service, ask(one_registry, "team/missing:v1"))
    (evidence,) = [span for span in spans if span.name == "gate.evidence"]
    assert evidence.attributes["countersign.outcome"] == "unverifiable"
    assert evidence.attributes["countersign.reason"] == "NotFound"
