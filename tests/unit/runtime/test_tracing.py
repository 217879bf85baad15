"""Spans, what is kept of them, and how they travel."""

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from countersign.runtime.tracing.context import parse
from countersign.runtime.tracing.environment import Target, check_tracing, resource_of, target_of
from countersign.runtime.tracing.export import MAX_BATCH, MAX_QUEUED, Exporter
from countersign.runtime.tracing.recording import MAX_ASKED_PER_SECOND, RecordingTracer
from countersign.runtime.tracing.setup import Tracing
from countersign.runtime.tracing.spans import UNRECORDED, UNTRACED, Span, child, current, happened

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans() -> list[Span]:
    return []


@pytest.fixture
def tracer(spans: list[Span]) -> RecordingTracer:
    return RecordingTracer(1.0, spans.append)


# Trace Context


def test_a_traceparent_is_read_as_the_recommendation_writes_it() -> None:
    found = parse(HEADER)
    assert found is not None
    assert (found.trace_id.hex(), found.span_id.hex(), found.sampled) == (TRACE, PARENT, True)
    unsampled = parse(HEADER[:-2] + "00")
    assert unsampled is not None
    assert not unsampled.sampled


def test_a_later_version_may_have_more_behind_it() -> None:
    assert parse(f"cc-{TRACE}-{PARENT}-01-what-the-future-brings") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        HEADER.upper(),
        HEADER + "-more",
        HEADER + "\n",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-" + "x" * 600,
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(header: str) -> None:
    assert parse(header) is None


@given(st.text(max_size=80))
def test_no_header_raises(header: str) -> None:
    parse(header)


# Spans


def test_spans_below_a_root_belong_to_it_and_to_the_callers_trace(tracer: RecordingTracer, spans: list[Span]) -> None:
    with tracer.root("review", HEADER, kind="server"), child("judge", {"a": "b"}) as judging:
        judging.set({"n": 1})
        happened("asked", 0.25, {"outcome": "ok"})
    asked, judge, root = spans
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert root.parent_id.hex() == PARENT
    assert judge.parent_id == root.span_id
    assert asked.parent_id == judge.span_id
    assert judge.attributes == {"a": "b", "n": 1}
    assert 0.24 < (asked.ended - asked.started) / 1e9 < 10
    assert current() is UNRECORDED


async def test_a_task_belongs_to_the_span_that_started_it(tracer: RecordingTracer, spans: list[Span]) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        happened("work", 0.0, {})

    with tracer.root("one"):
        one = asyncio.create_task(work())
    with tracer.root("two"):
        await one
    work_, first = (next(span for span in spans if span.name == name) for name in ("work", "one"))
    assert work_.parent_id == first.span_id


def test_what_raises_leaves_the_name_of_its_error_and_not_its_words(tracer: RecordingTracer, spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="secret"), tracer.root("review"):
        raise ValueError("secret")
    assert spans[0].error == "ValueError"
    assert "secret" not in repr(spans[0].attributes)


def test_a_fruitless_root_is_dropped_where_that_is_asked_for(tracer: RecordingTracer, spans: list[Span]) -> None:
    with tracer.root("nothing", fruitless=False):
        pass
    assert not spans
    with tracer.root("something", fruitless=False), child("write"):
        pass
    assert [span.name for span in spans] == ["write", "something"]


def test_attributes_are_bounded(tracer: RecordingTracer, spans: list[Span]) -> None:
    with tracer.root("review") as span:
        span.set({f"a{number}": "x" * 5000 for number in range(200)} | {"empty": ""})
    assert len(spans[0].attributes) == 64
    assert {len(str(value)) for value in spans[0].attributes.values()} == {1024}


def test_nobody_who_does_not_trace_leaves_anything() -> None:
    with UNTRACED.root("review", HEADER) as span, child("judge") as judging:
        happened("asked", 0.1, {})
        assert not span.recorded
        assert not judging.recorded


# What is kept


def test_a_share_of_the_traces_that_begin_here_is_kept(spans: list[Span]) -> None:
    tracer = RecordingTracer(0.25, spans.append)
    for _ in range(4000):
        with tracer.root("review"):
            pass
    assert 800 < len(spans) < 1200
    nothing = RecordingTracer(0.0, spans.append)
    assert nothing.root("review") is UNRECORDED


def test_a_caller_that_does_not_keep_its_trace_is_followed(tracer: RecordingTracer) -> None:
    assert tracer.root("review", HEADER[:-2] + "00") is UNRECORDED


def test_callers_have_so_many_traces_kept_a_second_and_no_more(spans: list[Span]) -> None:
    now = [10.5]
    tracer = RecordingTracer(0.0, spans.append, lambda: now[0])
    for _ in range(MAX_ASKED_PER_SECOND + 50):
        with tracer.root("review", HEADER):
            pass
    assert len(spans) == MAX_ASKED_PER_SECOND
    now[0] = 11.5
    assert tracer.root("review", HEADER) is not UNRECORDED


# Settings


def test_nobody_is_told_unless_somebody_asked_for_it() -> None:
    assert target_of("", {}) is None
    assert target_of("http://collector:4318", {"OTEL_SDK_DISABLED": "true"}) is None


def test_flag_and_variables_name_the_collector_as_opentelemetry_says() -> None:
    def url(endpoint: str, **variables: str) -> str:
        target = target_of(endpoint, {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()})
        assert target is not None
        return target.url

    assert url("http://collector:4318") == "http://collector:4318/v1/traces"
    assert url("", ENDPOINT="https://collector/base/") == "https://collector/base/v1/traces"
    assert url("", ENDPOINT="http://a", TRACES_ENDPOINT="http://b/as-it-is") == "http://b/as-it-is"
    assert url("http://flag", ENDPOINT="http://a", TRACES_ENDPOINT="http://b") == "http://flag/v1/traces"


def test_headers_timeout_and_compression_are_honoured() -> None:
    prefix = "OTEL_EXPORTER_OTLP_"
    variables = {f"{prefix}HEADERS": "api-key=a%20b, x=y", f"{prefix}TIMEOUT": "2500", f"{prefix}COMPRESSION": "gzip",
                 f"{prefix}TRACES_HEADERS": ""}  # fmt: skip
    target = target_of("http://collector", variables)
    assert target is not None
    assert (target.headers, target.timeout, target.gzip) == ({"api-key": "a b", "x": "y"}, 2.5, True)


@pytest.mark.parametrize(
    ("endpoint", "variables", "says"),
    [
        ("collector:4318", {}, "no address of a collector"),
        ("http://user:word@collector", {}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://collector", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ("http://collector", {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "gzip or none"),
        ("http://collector", {"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "milliseconds"),
        ("http://collector", {"OTEL_EXPORTER_OTLP_HEADERS": "nonsense"}, "name=value"),
    ],
)
def test_what_cannot_be_honoured_is_an_error_that_says_what_to_write(
    endpoint: str, variables: dict[str, str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        check_tracing(endpoint, 0.1, variables)


def test_an_error_about_headers_does_not_repeat_them() -> None:
    with pytest.raises(ValueError, match="HEADERS") as error:
        check_tracing("http://collector", 0.1, {"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"})
    assert "hunter2" not in str(error.value)


def test_the_share_is_a_share() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        check_tracing("", 1.5, {})


def test_whoever_runs_it_names_the_service() -> None:
    found = resource_of("countersign-gate", "1", "pod-1", {"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.version=2"})
    assert found["service.name"] == "countersign-gate"
    assert (found["a"], found["service.version"], found["service.instance.id"]) == ("b", "2", "pod-1")
    assert resource_of("x", "1", "p", {"OTEL_SERVICE_NAME": "mine"})["service.name"] == "mine"


# Export


class Counted(dict[str, int]):
    def __call__(self, outcome: str, spans: int) -> None:
        self[outcome] = self.get(outcome, 0) + spans


async def collector(handler: Callable[[web.Request], web.StreamResponse]) -> TestServer:
    async def serve(request: web.Request) -> web.StreamResponse:
        await request.read()
        return handler(request)

    app = web.Application()
    app.router.add_post("/v1/traces", serve)
    server = TestServer(app)
    await server.start_server()
    return server


def exporter(server: BaseTestServer | str, counted: Counted, **more: float) -> Exporter:
    url = server if isinstance(server, str) else str(server.make_url("/v1/traces"))
    options = {"delay": 0.01, "first_pause": 0.01, **more}
    return Exporter(Target(url, {"key": "secret"}, 2.0), {"service.name": "x"}, "1", counted, **options)


def traced(sink: Callable[[Span], None], count: int) -> None:
    tracer = RecordingTracer(1.0, sink)
    for _ in range(count):
        with tracer.root("review"):
            pass


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_spans_reach_the_collector_with_its_headers() -> None:
    seen: list[web.Request] = []
    counted = Counted()

    def take(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    async with await collector(take) as server, exporter(server, counted) as sink:
        traced(sink, 3)
        await until(lambda: counted.get("exported") == 3)
    assert seen[0].headers["key"] == "secret"
    assert seen[0].content_type == "application/x-protobuf"


async def test_a_collector_that_asks_for_patience_is_asked_again() -> None:
    answers = [503, 429, 200]
    counted = Counted()
    async with (
        await collector(lambda _: web.Response(status=answers.pop(0))) as server,
        exporter(server, counted) as sink,
    ):
        traced(sink, 2)
        await until(lambda: counted == {"exported": 2})
    assert not answers


@pytest.mark.parametrize("status", [400, 401, 307])
async def test_what_a_collector_refuses_is_counted_and_not_sent_again(status: int) -> None:
    asked = []
    counted = Counted()

    def refuse(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(status=status, headers={"Location": "http://elsewhere.example/"})

    async with await collector(refuse) as server, exporter(server, counted) as sink:
        traced(sink, 1)
        await until(lambda: counted == {"refused": 1})
        await asyncio.sleep(0.05)
    assert len(asked) == 1


async def test_a_dead_collector_costs_a_counter_and_never_the_callers_time() -> None:
    counted = Counted()
    async with exporter("http://127.0.0.1:9/v1/traces", counted, delay=0.01, first_pause=60.0) as sink:
        traced(sink, MAX_BATCH)
        await asyncio.sleep(0.1)  # the first batch is on its way, and waits for its second try
        traced(sink, MAX_QUEUED + 100)
        assert counted == {"queue_full": 100}


async def test_spans_that_nobody_takes_are_given_up_after_some_tries() -> None:
    counted = Counted()
    async with exporter("http://127.0.0.1:9/v1/traces", counted, first_pause=0.001) as sink:
        traced(sink, 5)
        await until(lambda: counted == {"unreachable": 5})


async def test_an_ending_process_sends_what_is_left() -> None:
    counted = Counted()
    async with await collector(lambda _: web.Response()) as server:
        async with exporter(server, counted, delay=60.0) as sink:
            traced(sink, 7)
        assert counted == {"exported": 7}


# Off


async def test_off_is_the_default_and_the_metric_is_there_all_the_same() -> None:
    registry = CollectorRegistry()
    async with Tracing("countersign-gate", "", 0.1, registry, {}).started() as tracer:
        assert tracer is UNTRACED
    assert [family.name for family in registry.collect()] == ["countersign_trace_spans"]


@pytest.mark.parametrize("service", ["gate", "controller", "verifier"])
def test_a_service_that_is_not_traced_loads_none_of_it(service: str) -> None:
    code = (
        f"import sys, countersign.{service}.service\n"
        "print([name for name in sys.modules if name.startswith('countersign.runtime.tracing.')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "tracing.spans" in loaded
    for part in ("export", "otlp", "recording"):
        assert f"tracing.{part}" not in loaded
