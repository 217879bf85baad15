"""A registry that is as far and as busy as a benchmark wants it: a small Go proxy (`far/`) before the lab's own.

It counts what arrives, so that figures of requests are the registry's, not the gate's word. Everything that the lab's
registry has stands under any number of names (`again`): what was verified once is new under the next.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import urllib3

from tests.bench.load_generator import compiled
from tests.lab.http import HttpClient
from tests.lab.images import PushedImage
from tests.lab.lab import Lab
from tests.lab.processes import Process, free_port

SOURCE = Path(__file__).parent / "far"


class FarRegistry:
    """One running proxy. `host` is what stands in an image reference."""

    def __init__(self, lab: Lab) -> None:
        self.near = lab.registry("referrers")
        port, control = free_port(), free_port()
        self.host = f"127.0.0.1:{port}"
        self.url = f"https://{self.host}"
        pair = lab.ca.server("far-registry")
        args = [
            *(f"-listen={self.host}", f"-control=127.0.0.1:{control}", f"-upstream={self.near.url}"),
            *(f"-ca={lab.ca_file}", f"-cert={pair.cert}", f"-key={pair.key}"),
        ]
        self.process: Process = lab.processes.start(
            "far-registry", [compiled(SOURCE), *args], lab.folder / "logs" / "far-registry.log"
        )
        self._control = HttpClient(f"http://127.0.0.1:{control}")
        self._names = itertools.count(1)
        self.process.wait_until(self._ready, what="the proxy answers")

    def again(self, image: PushedImage, *, tag: bool = False) -> str:
        """A reference to the image under a name that nobody has asked for yet."""
        name = image.repository.partition("/")[2]
        what = f":{image.tag}" if tag else f"@{image.digest}"
        return f"{self.host}/again/{next(self._names)}/{name}{what}"

    def glob(self, image: PushedImage) -> str:
        """What all those names match."""
        return f"{self.host}/again/*/{image.repository.partition('/')[2]}"

    def requests(self) -> Counter[str]:
        """How many have arrived so far, by method and kind; among them `refused`, which counts no request again."""
        return Counter(self._control.get("/", expect=200).body)

    @contextlib.contextmanager
    def being(self, *, milliseconds: int = 0, refusing: float = 0.0) -> Iterator[None]:
        """So far away for a while (a round trip), and answering 429 to such a share of requests."""
        self._set(f"{milliseconds}ms", refusing)
        try:
            yield
        finally:
            self._set("0ms", 0.0)

    def _set(self, delay: str, refuse: float) -> None:
        self._control.post("/", b"", query={"delay": delay, "refuse": str(refuse)}, expect=200)

    def _ready(self) -> bool:
        try:
            return self._control.get("/").ok
        except (urllib3.exceptions.HTTPError, OSError):
            return False


def total(requests: Counter[str]) -> int:
    """All of them."""
    return sum(count for name, count in requests.items() if name != "refused")
