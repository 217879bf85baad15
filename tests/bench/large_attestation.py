"""Warm requests while a cold attestation of 20 MB is read and judged, against the same requests without it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.table import Table

from tests.bench.far_registry import FarRegistry
from tests.bench.gate_figures import memory_mib
from tests.bench.load_generator import Load, request, run
from tests.bench.reviews import review, review_of
from tests.bench.setting import Setting
from tests.bench.signed_images import Signed, SignedImages
from tests.bench.statistics_of import quantiles
from tests.lab.http import HttpClient

PREDICATE_BYTES: Final = 15_000_000
"""The envelope holds it in base64, which makes 20 MB."""
ROUNDS: Final = 3
SECONDS: Final = 15.0
IN_FLIGHT: Final = 1
PROBE_SECONDS: Final = 0.002
PREDICATE_TYPE: Final = "https://spdx.dev/Document"
CONDITION: Final = "predicate.packages.all(one, one.licenseConcluded != 'AGPL-3.0-only')"


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """The rounds take turns. Nothing is pinned: the gate's workers are there to use the other core."""
    far = FarRegistry(setting.lab)
    made = SignedImages(setting, far, "large")
    say("signing")
    warm, large = made.keyed(), made.large(PREDICATE_TYPE, _document(), CONDITION)
    made.declare()
    bench = _Bench(setting, far, warm, large)
    results: dict[bool, list[_Round]] = {False: [], True: []}
    for number in range(ROUNDS):
        for busy in (False, True):
            say(f"round {number + 1}: warm requests, {'with' if busy else 'without'} a large attestation")
            results[busy].append(bench.round(busy=busy))
    table = Table(
        title="Warm /mutate, by digest, one at a time, while cold attestations of 20 MB are read and judged",
        caption_justify="left",
    )
    for column in (
        "", "req/s", "p50 ms", "p99 ms", "max ms", "x p99 without", "loop late: p99 ms", "max ms", "judged", "each, s",
    ):  # fmt: skip
        table.add_column(column, justify="left" if not column else "right")
    base = _middle([one.load.p99_ms for one in results[False]])
    for busy, name in ((False, "without"), (True, "with one after the other")):
        rounds = results[busy]
        p99 = _middle([one.load.p99_ms for one in rounds])
        _, late, latest = quantiles([delay for one in rounds for delay in one.delays])
        judged = [seconds for one in rounds for seconds in one.judged]
        table.add_row(
            name, f"{_middle([one.load.rate for one in rounds]):,.0f}",
            f"{_middle([one.load.p50_ms for one in rounds]):.2f}", f"{p99:.2f}",
            f"{max(one.load.max_ms for one in rounds):.1f}", f"{p99 / base:.2f}", f"{late:.1f}", f"{latest:.1f}",
            str(len(judged)), f"{_middle(judged):.1f}" if judged else "",
        )  # fmt: skip
        if failures := [one.load.first_failure for one in rounds if one.load.failed]:
            say(failures[0])
    gate, workers = memory_mib(setting.countersign.services["gate"])
    table.caption = (
        f"gate {gate:.0f} MiB, its workers {workers:.0f} MiB. Loop late: what /healthz, asked every "
        f"{PROBE_SECONDS * 1000:.0f} ms on the gate's own loop, takes: no stall is longer than the longest."
    )
    return table


class _Round:
    def __init__(self, load: Load, delays: list[float], judged: list[float]) -> None:
        self.load = load
        self.delays = delays
        self.judged = judged


class _Bench:
    def __init__(self, setting: Setting, far: FarRegistry, warm: Signed, large: Signed) -> None:
        self._setting = setting
        self._far = far
        self._large = large
        self._gate = setting.countersign.services["gate"]
        self._gate_ca = setting.countersign.ca_file("gate")
        self._url = f"https://127.0.0.1:{self._gate.port}"
        self._spec = review(setting, [setting.image.by_tag])["request"]["object"]["spec"]
        self._warm = request("/mutate?timeout=10s", self._review(far.again(warm.image), warm.namespace))

    def round(self, *, busy: bool) -> _Round:
        """Warm requests for a while, and the loop watched meanwhile."""
        delays: list[float] = []
        judged: list[float] = []
        with self._meanwhile(self._probe, delays):
            if busy:
                with self._meanwhile(self._judge, judged):
                    load = self._load()
            else:
                load = self._load()
        return _Round(load, delays, judged)

    def _load(self) -> Load:
        return run(
            self._url, [self._warm], ca=self._gate_ca, folder=self._setting.lab.folder, in_flight=IN_FLIGHT,
            seconds=SECONDS, expect='"patch":"', pinned=False,
        )  # fmt: skip

    @contextmanager
    def _meanwhile(self, work: Callable[[list[float]], None], found: list[float]) -> Iterator[None]:
        over = threading.Event()
        problems: list[Exception] = []

        def repeat() -> None:
            try:
                while not over.is_set():
                    work(found)
            except Exception as error:  # told below, in the thread that asked
                problems.append(error)

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)
        if problems:
            raise problems[0]

    def _judge(self, found: list[float]) -> None:
        """A pod of an image with a large attestation, new to the gate; how many seconds it took."""
        began = time.perf_counter()
        client = HttpClient(self._url, ca_file=self._gate_ca)
        asked = self._review(self._far.again(self._large.image), self._large.namespace)
        answer = client.post("/mutate?timeout=30s", asked, expect=200).body["response"]
        client.close()
        if not answer["allowed"]:
            raise AssertionError(f"the large attestation is refused: {answer['status']['message']}")
        found.append(time.perf_counter() - began)

    def _probe(self, found: list[float]) -> None:
        """How long the gate's loop takes to get round to a request that costs it nothing, in milliseconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self._gate.health_port, timeout=30)
        connection.connect()
        for _ in range(200):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(PROBE_SECONDS)
        connection.close()

    def _review(self, image: str, namespace: str) -> Any:
        return review_of(self._spec, [image], namespace)


def _document() -> dict[str, Any]:
    package = {"licenseConcluded": "Apache-2.0", "filesAnalyzed": False, "downloadLocation": "NOASSERTION"}
    packages: list[dict[str, Any]] = []
    size = 0
    while size < PREDICATE_BYTES:
        number = len(packages)
        one = package | {
            "SPDXID": f"SPDXRef-{number}",
            "name": f"package-{number}",
            "comment": f"{number:064d}" * 4,
            "versionInfo": "1.0.0",
        }
        packages.append(one)
        size += len(json.dumps(one)) + 2
    return {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "ledger", "packages": packages}


def _middle(values: list[float]) -> float:
    return quantiles(values)[0]
