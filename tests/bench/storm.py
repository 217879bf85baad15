"""Two hundred new pods at once through the API server: of one new image, of fifty, of a registry that says 429."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.table import Table

from tests.bench.creation import clear
from tests.bench.far_registry import FarRegistry, total
from tests.bench.gate_figures import verifications
from tests.bench.load_generator import Load, request, run
from tests.bench.setting import FREE, Setting
from tests.bench.signed_images import Signed, SignedImages
from tests.lab.sigstore.services import Rekor

PODS: Final = 200
IN_FLIGHT: Final = (20, 50, 200)
IMAGES: Final = (1, 50)
HALF: Final = 0.5


def measure(setting: Setting, say: Callable[[str], None]) -> Table:
    """Images by tag, as developers write them, and new to the gate in each row. All pods must be admitted."""
    far = FarRegistry(setting.lab)
    made = SignedImages(setting, far, "storm")
    say("signing")
    kinds = [made.keyed(), made.keyless(Rekor.V2)]
    made.declare()
    storm = _Storm(setting, far, say)
    table = Table(title=f"{PODS} new pods through the API server")
    for column in (
        "in flight", "", "", "new images", "admitted", "pods/s", "p50 ms", "p99 ms", "verifications",
        "registry requests",
    ):  # fmt: skip
        table.add_column(column, justify="left" if not column else "right")
    for in_flight in IN_FLIGHT:
        storm.row(table, "without Countersign", None, in_flight, 1)
        for signed in kinds:
            for images in IMAGES:
                storm.row(table, "", signed, in_flight, images)
            with far.being(refusing=HALF):
                storm.row(table, "429 to half", signed, in_flight, IMAGES[-1])
    return table


class _Storm:
    def __init__(self, setting: Setting, far: FarRegistry, say: Callable[[str], None]) -> None:
        self._setting = setting
        self._far = far
        self._say = say

    def row(self, table: Table, name: str, signed: Signed | None, in_flight: int, images: int) -> None:
        """One storm."""
        kind = signed.kind if signed else "allowed unseen"
        self._say(f"{PODS} pods of {images} images, {in_flight} in flight: {kind} {name}")
        gate = self._setting.countersign.services["gate"]
        namespace = signed.namespace if signed else FREE
        names = (
            [self._far.again(signed.image, tag=True) for _ in range(images)]
            if signed else [self._setting.image.by_tag]
        )  # fmt: skip
        before = verifications(gate), total(self._far.requests())
        load = self._create(namespace, names, in_flight)
        searches, requests = (
            now - then for now, then in zip((verifications(gate), total(self._far.requests())), before, strict=True)
        )
        admitted = f"{PODS - load.failed} of {PODS}" + (f" ({load.first_failure[:200]})" if load.failed else "")
        clear(self._setting, namespace)
        table.add_row(
            str(in_flight), kind, name, str(len(names)) if signed else "", admitted, f"{load.rate:,.0f}",
            f"{load.p50_ms:.0f}", f"{load.p99_ms:.0f}", f"{searches:.0f}", str(requests),
        )  # fmt: skip

    def _create(self, namespace: str, images: Sequence[str], in_flight: int) -> Load:
        lab = self._setting.lab
        admin = lab.ca.client("lab-admin", ["system:masters"])
        bodies = [request(f"/api/v1/namespaces/{namespace}/pods", self._pod(namespace, image)) for image in images]
        return run(
            lab.url, bodies, ca=lab.ca_file, folder=lab.folder, in_flight=in_flight, count=PODS,
            certificate=(admin.cert, admin.key), pinned=False,
        )  # fmt: skip

    def _pod(self, namespace: str, image: str) -> Any:
        pod = self._setting.pod("storm", namespace, generate=True)
        pod["spec"]["containers"][0]["image"] = image
        return pod
