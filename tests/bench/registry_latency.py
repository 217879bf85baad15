"""What the way to the registry costs an admission, cold and warm; and a registry that says 429 to half of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.table import Table

from tests.bench.far_registry import FarRegistry, total
from tests.bench.gate_figures import reviews
from tests.bench.load_generator import Load, request, run
from tests.bench.reviews import review, review_of
from tests.bench.setting import Setting
from tests.bench.signed_images import Signed, SignedImages
from tests.lab.sigstore.services import Rekor

MILLISECONDS: Final = (0, 20, 100)
COLD: Final = 30
MANY: Final = 200
IN_FLIGHT: Final = 20
WARM_SECONDS: Final = 3.0
HALF: Final = 0.5
AT_ONCE: Final = f"{MANY} new, {IN_FLIGHT} in flight"


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """One review at a time, then many new images at once. The baseline is a HEAD of the tag by a client that waits."""
    far = FarRegistry(setting.lab)
    made = SignedImages(setting, far, "latency")
    say("signing")
    images = [made.keyed(), made.keyless(Rekor.V2), made.attested()]
    made.declare()
    bench = _Bench(setting, far, say)
    table = Table(
        title="Admissions by the distance of the registry (round trip), one at a time if not said otherwise",
        caption="Round trips: p50 by that of a bare HEAD of the tag, over a connection that is open.",
        caption_justify="left",
    )
    for column in ("round trip", "", "", "reviews", "p50 ms", "p99 ms", "round trips", "registry requests", "failed"):
        table.add_column(column, justify="left" if not column else "right")
    for milliseconds in MILLISECONDS:
        with far.being(milliseconds=milliseconds):
            bench.distance(table, milliseconds, images)
    bench.bare = 0.0
    with far.being(refusing=HALF):
        for signed in images:
            bench.row(table, "429 to half", signed, AT_ONCE, bench.cold(signed, MANY, IN_FLIGHT))
    return table


class _Bench:
    def __init__(self, setting: Setting, far: FarRegistry, say: Callable[[str], None]) -> None:
        self._setting = setting
        self._far = far
        self._say = say
        self._gate = setting.countersign.services["gate"]
        self._gate_ca = setting.countersign.ca_file("gate")
        self._spec = review(setting, [setting.image.by_tag])["request"]["object"]["spec"]
        self.bare = 0.0

    def distance(self, table: Table, milliseconds: int, images: Sequence[Signed]) -> None:
        """All rows of one distance."""
        name = f"{milliseconds} ms"
        path = f"/v2/{images[0].image.repository.partition('/')[2]}/manifests/{images[0].image.tag}"
        asked = request(path, "", method="HEAD", headers={"Accept": images[0].image.media_type})
        bare = run(
            self._far.url, [asked], ca=self._setting.lab.ca_file, folder=self._setting.lab.folder,
            in_flight=1, seconds=WARM_SECONDS, pinned=False,
        )  # fmt: skip
        # On loopback it is no distance, and its quotient would say nothing.
        self.bare = bare.p50_ms if milliseconds else 0.0
        trips = "1.0" if milliseconds else ""
        figures = (str(bare.requests), f"{bare.p50_ms:.1f}", f"{bare.p99_ms:.1f}", trips, "1.00", str(bare.failed))
        table.add_row(name, "bare HEAD of a tag", "", *figures)
        for signed in images:
            self.row(table, name, signed, "cold", self.cold(signed, COLD, 1))
            self.row(table, name, signed, AT_ONCE, self.cold(signed, MANY, IN_FLIGHT))
            self.row(table, name, signed, "warm, by digest", self._warm(signed, tag=False))
            self.row(table, name, signed, "warm, by tag", self._warm(signed, tag=True))

    def row(self, table: Table, name: str, signed: Signed, how: str, load: Callable[[], Load]) -> None:
        """Run one load, and say what came of it."""
        self._say(f"{name}: {signed.kind}, {how}")
        before = total(self._far.requests()), reviews(self._gate)
        done = load()
        requests, asked = (
            now - then for now, then in zip((total(self._far.requests()), reviews(self._gate)), before, strict=True)
        )
        if done.failed:
            self._say(done.first_failure)
        table.add_row(
            name, signed.kind, how, str(done.requests), f"{done.p50_ms:.1f}", f"{done.p99_ms:.1f}",
            f"{done.p50_ms / self.bare:.1f}" if self.bare else "", f"{requests / asked:.2f}", str(done.failed),
        )  # fmt: skip

    def cold(self, signed: Signed, count: int, in_flight: int) -> Callable[[], Load]:
        """So many images that the gate has never seen."""
        asked = [self._asked(signed, tag=False) for _ in range(count)]
        return lambda: self._run(asked, in_flight, count)

    def _warm(self, signed: Signed, *, tag: bool) -> Callable[[], Load]:
        asked = [self._asked(signed, tag=tag)]
        self._run(asked, 1, 1)
        return lambda: self._run(asked, 1, 0)

    def _asked(self, signed: Signed, *, tag: bool) -> Any:
        name = self._far.again(signed.image, tag=tag)
        return request("/mutate?timeout=10s", review_of(self._spec, [name], signed.namespace))

    def _run(self, asked: Sequence[Any], in_flight: int, count: int) -> Load:
        return run(
            f"https://127.0.0.1:{self._gate.port}", asked, ca=self._gate_ca, folder=self._setting.lab.folder,
            in_flight=in_flight, seconds=WARM_SECONDS, count=count, expect='"patch":"', pinned=False,
        )  # fmt: skip
