"""Cold and warm verification of each kind, inside the gate, against a webhook that allows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from rich import box
from rich.table import Table

from tests.bench.far_registry import FarRegistry, total
from tests.bench.gate_figures import memory_mib, quick_reviews, remembered_mib, reviews, verifications
from tests.bench.load_generator import Load, pin, request, run, unpin
from tests.bench.reviews import allow_all_webhook, review, review_of
from tests.bench.setting import FREE, Setting
from tests.bench.signed_images import Signed, SignedImages
from tests.lab.processes import Process
from tests.lab.sigstore.services import Rekor

CONTAINERS: Final = (1, 5)
WARM_IN_FLIGHT: Final = (1, 32)
COLD_IN_FLIGHT: Final = (1, 8)
COLD_REVIEWS: Final = 60
WARM_SECONDS: Final = 2.0
TEN: Final = 10


class Row(NamedTuple):
    """One way of asking: alone, then many at once."""

    alone: Load
    many: Load
    requests: float
    """To the registry, each admission."""
    verifications: float
    """Searches for signatures, each admission."""
    quick: float | None
    """The share of those alone that the gate answered within 10 ms of reading them."""


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """The gate and its workers on one core, the load on the other; registry and proxy wherever there is room."""
    far = FarRegistry(setting.lab)
    images = _images(setting, far, say)
    specs = {count: _spec(setting, count) for count in CONTAINERS}
    with allow_all_webhook(setting, review(setting, [setting.image.by_tag])) as (url, process):
        bench = _Bench(setting, far, say, url, process, specs)
        pin(bench.gate.pid)
        pin(process.pid)
        try:
            return bench.table(images)
        finally:
            unpin(bench.gate.pid)


def _images(setting: Setting, far: FarRegistry, say: Callable[[str], None]) -> list[Signed]:
    made = SignedImages(setting, far, "verification")
    images = []
    for count in (1, TEN):
        say(f"signing, {count} signatures each")
        images += [made.keyed(count), *(made.keyless(rekor, count) for rekor in (Rekor.V2, Rekor.V1))]
        images.append(made.attested(count))
    images += [made.keyed(3, authorities=15), made.unsigned()]
    made.declare()
    return images


def _spec(setting: Setting, containers: int) -> Any:
    return review(setting, [setting.image.by_tag] * containers)["request"]["object"]["spec"]


class _Counts(NamedTuple):
    requests: int
    verifications: float
    quick: float
    reviews: float


class _Bench:
    def __init__(
        self,
        setting: Setting,
        far: FarRegistry,
        say: Callable[[str], None],
        base_url: str,
        baseline: Process,
        specs: dict[int, Any],
    ) -> None:
        self.gate = setting.countersign.services["gate"]
        self._setting = setting
        self._far = far
        self._say = say
        self._base_url = base_url
        self._baseline = baseline
        self._specs = specs
        self._gate_ca = setting.countersign.ca_file("gate")

    def table(self, images: Sequence[Signed]) -> Table:
        alone, workers = memory_mib(self.gate)
        table = Table(
            title="Verification inside the gate, one core; left one request in flight, right 32 (8 where cold)",
            caption_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
        )
        for column in (
            "", "signed", "images", "", "req/s", "p50 / p99 ms", "in 10 ms", "req/s", "p50 / p99 ms",
            "ratio", "requests", "searches", "failed",
        ):  # fmt: skip
            table.add_column(column, justify="left" if not column else "right", no_wrap=True)
        for containers in CONTAINERS:
            base = self._baseline_row(containers)
            table.add_row("allow-all webhook", "", str(containers), "", *_figures(base, base), "", "", "")
            for signed in images:
                for name, row in self._rows(signed, containers):
                    failed = row.alone.failed + row.many.failed
                    if failed:
                        self._say(row.alone.first_failure or row.many.first_failure)
                    table.add_row(
                        signed.kind, str(signed.signatures), str(containers), name, *_figures(row, base),
                        f"{row.requests:.2f}", f"{row.verifications:.2f}", str(failed),
                    )  # fmt: skip
        after, workers_after = memory_mib(self.gate)
        table.caption = (
            f"gate {alone:.0f} MiB before, {after:.0f} MiB after {reviews(self.gate):,.0f} reviews, of which its "
            f"memory of facts says {remembered_mib(self.gate):.0f}; its workers {workers:.0f} and {workers_after:.0f} "
            "MiB. Requests to the registry and searches for signatures are those of one review; in 10 ms: by the "
            "gate's own clock, from the body read to the answer. Ratio: to the allow-all webhook on the right."
        )
        return table

    def _baseline_row(self, containers: int) -> Row:
        asked = request("/mutate", review_of(self._specs[containers], [self._setting.image.by_tag] * containers, FREE))
        alone, many = (self._allow_all(asked, in_flight) for in_flight in WARM_IN_FLIGHT)
        return Row(alone, many, 0.0, 0.0, None)

    def _allow_all(self, asked: Any, in_flight: int) -> Load:
        return run(
            self._base_url, [asked], ca=self._setting.lab.ca_file, folder=self._setting.lab.folder,
            in_flight=in_flight, seconds=WARM_SECONDS, expect='"allowed":true',
        )  # fmt: skip

    def _rows(self, signed: Signed, containers: int) -> list[tuple[str, Row]]:
        self._say(f"{signed.kind}, {signed.signatures} signatures, {containers} containers")
        weight = containers * max(1, signed.signatures)

        def cold(in_flight: int) -> Load:
            count = max(in_flight, COLD_REVIEWS // (1 if weight == 1 else 3))
            asked = [self._asked(signed, containers, tag=False) for _ in range(count)]
            return self._run(signed, asked, in_flight, count)

        def warm(*, tag: bool) -> Callable[[int], Load]:
            asked = [self._asked(signed, containers, tag=tag)]
            return lambda in_flight: self._run(signed, asked, in_flight, 0)

        return [
            ("cold", self._row(cold, COLD_IN_FLIGHT)),
            ("by digest", self._row(warm(tag=False), WARM_IN_FLIGHT)),
            ("by tag", self._row(warm(tag=True), WARM_IN_FLIGHT)),
        ]

    def _row(self, load: Callable[[int], Load], in_flight: tuple[int, int]) -> Row:
        before = self._counts()
        alone = load(in_flight[0])
        between = self._counts()
        many = load(in_flight[1])
        after = self._counts()
        return Row(
            alone,
            many,
            requests=(after.requests - before.requests) / (after.reviews - before.reviews),
            verifications=(after.verifications - before.verifications) / (after.reviews - before.reviews),
            quick=(between.quick - before.quick) / (between.reviews - before.reviews),
        )

    def _counts(self) -> _Counts:
        return _Counts(
            total(self._far.requests()), verifications(self.gate), quick_reviews(self.gate), reviews(self.gate)
        )

    def _asked(self, signed: Signed, containers: int, *, tag: bool) -> Any:
        names = [self._far.again(signed.image, tag=tag) for _ in range(containers)]
        return request("/mutate?timeout=30s", review_of(self._specs[containers], names, signed.namespace))

    def _run(self, signed: Signed, asked: Sequence[Any], in_flight: int, count: int) -> Load:
        return run(
            f"https://127.0.0.1:{self.gate.port}", asked, ca=self._gate_ca, folder=self._setting.lab.folder,
            in_flight=in_flight, seconds=WARM_SECONDS, count=count,
            expect='"patch":"' if signed.signatures else '"allowed":false',
        )  # fmt: skip


def _figures(row: Row, base: Row) -> list[str]:
    return [
        f"{row.alone.rate:,.0f}", _latencies(row.alone), "" if row.quick is None else f"{row.quick:.1%}",
        f"{row.many.rate:,.0f}", _latencies(row.many), f"{row.many.rate / base.many.rate:.3f}",
    ]  # fmt: skip


def _latencies(load: Load) -> str:
    return " / ".join(f"{figure:,.{2 if figure < 10 else 0}f}" for figure in (load.p50_ms, load.p99_ms))
