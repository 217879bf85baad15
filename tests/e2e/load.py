"""A steady load, with every answer on record: pods that are created, and tokens that are asked about."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import urllib3

from tests.e2e.scene import ACCOUNT, Scene
from tests.lab.http import HttpClient
from tests.stack import objects
from tests.stack.objects import Object

PODS_PER_SECOND = 5.0
"""Of signed ones; as many unsigned ones are tried."""
QUESTIONS_PER_SECOND = 6.0
"""About each of the two tokens."""


class Seen(NamedTuple):
    """One answer: when (monotonic seconds), the HTTP status (0: none came), and what it said."""

    at: float
    status: int
    message: str


EXPECTED = {"signed": 201, "unsigned": 403, "active": 200, "revoked": 403}
"""The only right answer to each kind of request."""


class Witnesses(NamedTuple):
    """Whose tokens a load asks about, and where."""

    keeper: Object
    """A pod that runs all along."""
    leaver: Object
    """One whose identity was revoked."""
    active: str
    revoked: str
    ledger_url: str
    """The relying party at the address of its pod."""


def witnesses(scene: Scene) -> Witnesses:
    """Start them."""
    keeper, leaver = scene.start(scene.pod("keeper")), scene.start(scene.pod("leaver"))
    active, revoked = scene.token(keeper), scene.token(leaver)
    scene.revoke(leaver)
    scene.inactive(revoked)
    (pod,) = scene.cluster.pods(scene.ledger.namespace, "app=ledger")
    return Witnesses(keeper, leaver, active, revoked, f"http://{pod['status']['podIP']}:8080")


@dataclass
class Load:
    """Runs while it is entered."""

    scene: Scene
    witnesses: Witnesses
    pods_per_second: float = PODS_PER_SECOND
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._numbers = itertools.count(1)
        self._developer = self.scene.cluster.as_user(self.scene.developer)
        self._ledger = HttpClient(self.witnesses.ledger_url)
        pods, questions = 1 / self.pods_per_second, 1 / QUESTIONS_PER_SECOND
        self._threads = [
            threading.Thread(target=self._repeat, args=("signed", pods, lambda: self._create("signed"))),
            threading.Thread(target=self._repeat, args=("unsigned", pods, lambda: self._create("unsigned"))),
            threading.Thread(target=self._repeat, args=("active", questions, lambda: self._ask(self.witnesses.active))),
            threading.Thread(
                target=self._repeat, args=("revoked", questions, lambda: self._ask(self.witnesses.revoked))
            ),
        ]

    def wrong(self, begun: float) -> list[str]:
        """Answers that are not the expected ones, a line for each sort: how many, which, and when."""
        found: dict[tuple[str, int, str], list[float]] = {}
        for kind, seen in self.seen.items():
            for one in seen:
                if one.status != EXPECTED[kind]:
                    found.setdefault((kind, one.status, one.message[:200]), []).append(one.at - begun)
        return [
            f"{kind}: {len(times)} x {status} {message} ({times[0]:.1f} s to {times[-1]:.1f} s)"
            for (kind, status, message), times in found.items()
        ]

    def longest_gap(self) -> float:
        """Seconds, the longest between two answers of one kind: that the load was one."""
        return max(later.at - earlier.at for seen in self.seen.values() for earlier, later in itertools.pairwise(seen))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind: str, seconds: float, once: Callable[[], tuple[int, str]]) -> None:
        seen = self.seen.setdefault(kind, [])
        while not self._stop.wait(seconds):
            try:
                status, message = once()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                status, message = 0, repr(error)
            seen.append(Seen(time.monotonic(), status, message))

    def _create(self, kind: str) -> tuple[int, str]:
        image = self.scene.image if kind == "signed" else self.scene.unsigned
        # No scheduler takes them: the gate and the controller are loaded, the node is not.
        spec: dict[str, Any] = objects.pod_spec(
            objects.container(image.by_tag, args=["work"]), service_account=ACCOUNT, schedulerName="nobody"
        )
        pod = objects.pod(f"{kind}-{next(self._numbers)}", self.scene.namespace, spec)
        reply = self._developer.post(objects.collection_path(pod), pod)
        if reply.status == 201 and kind == "signed":
            self.pods.append(reply.body)
        return reply.status, reply.message

    def _ask(self, token: str) -> tuple[int, str]:
        reply = self._ledger.get("/", headers={"Authorization": f"Bearer {token}"})
        return reply.status, reply.message
