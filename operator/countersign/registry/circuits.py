"""Hosts that do not answer are left alone for a while, so that nobody waits for them in vain.

After so many failures in a row (no answer in time, broken connections, 5xx) a host is not asked for a few seconds;
then one request may try, and its fate decides for all. A tenant can make a registry fail on purpose, by a path of a
proxy whose own upstream is dead, say. So a host is closed to everybody only after requests of two namespaces have
failed; until then only to the namespace whose requests did.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

import structlog

from countersign.registry.errors import CircuitOpenError
from countersign.registry.lru import LRU
from countersign.registry.observer import Observer, Unobserved

MAX_FAILURES: Final = 8
"""In a row. One verification asks three things at once: a single bad moment of a host is not enough."""
FIRST_REST_SECONDS: Final = 2.0
MAX_REST_SECONDS: Final = 30.0
"""A host rests twice as long after each failed probe, and no longer than this: its recovery is soon noticed."""
MAX_HOSTS: Final = 1024
"""Hosts remembered. Names of hosts come from authors of pods."""


_log = structlog.get_logger()


class _Circuit:
    __slots__ = ("failures", "last", "names", "probing", "rest", "since", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.names: set[str] = set()
        self.last = ""
        self.since: datetime | None = None
        """Set while it is open."""
        self.until = 0.0
        self.rest = FIRST_REST_SECONDS
        self.probing = False


class Circuits:
    """One for each `host:port`. `clock` counts seconds and never goes back; `wall` tells people when it was."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        max_failures: int = MAX_FAILURES,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        observer: Observer | None = None,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._max_failures = max_failures
        self._observer = observer or Unobserved()
        self._circuits: LRU[str, _Circuit] = LRU(MAX_HOSTS)
        self._open: set[str] = set()

    def enter(self, host: str, names: Collection[str]) -> bool:
        """Before a request on behalf of these namespaces: whether it is the probe. Raises CircuitOpenError.

        What becomes of it is told by exactly one of `answered`, `failed` and `left`.
        """
        circuit = self._circuit(host)
        if circuit is None or circuit.since is None or not _concerns(circuit, names):
            return False
        now = self._clock()
        if now < circuit.until or circuit.probing:
            wait = max(circuit.until - now, 0.0)
            when = f"it is asked again in {wait:.0f} s" if wait >= 1 else "it is being asked again now"
            raise CircuitOpenError(
                f"{host} has not answered since {circuit.since:%H:%M:%S} UTC ({circuit.failures} requests in a row, "
                f"the last: {circuit.last}), so it is left alone; {when}"
            )
        circuit.probing = True
        return True

    def answered(self, host: str) -> None:
        """The host answered something, be it a refusal."""
        circuit = self._circuits.pop(host)
        if circuit is not None and circuit.since is not None:
            self._closed(host)

    def failed(self, host: str, names: Collection[str], message: str, *, probe: bool) -> None:
        """The host did not answer, or said that it cannot."""
        circuit = self._circuit(host)
        if circuit is None:
            circuit = _Circuit()
        circuit.failures += 1
        circuit.last = message
        if len(circuit.names) < 2:
            circuit.names.update(names)
        now = self._clock()
        if circuit.since is None:
            if circuit.failures >= self._max_failures:
                circuit.since, circuit.until = self._wall(), now + circuit.rest
                self._open.add(host)
                _log.warning("registry is left alone", host=host, failures=circuit.failures, last=message)
                self._observer.circuits(1, len(self._open))
        elif probe:
            circuit.probing = False
            circuit.rest = min(2 * circuit.rest, MAX_REST_SECONDS)
            circuit.until = now + circuit.rest
        self._circuits.put(host, circuit, float("inf"))
        self._open = {one for one in self._open if self._circuit(one) is not None}

    def left(self, host: str, *, probe: bool) -> None:
        """The request ended without telling anything about the host: cancelled, or refused by ourselves."""
        circuit = self._circuit(host)
        if probe and circuit is not None:
            circuit.probing = False

    def _circuit(self, host: str) -> _Circuit | None:
        return self._circuits.get(host, 0.0)

    def _closed(self, host: str) -> None:
        self._open.discard(host)
        _log.info("registry answers again", host=host)
        self._observer.circuits(0, len(self._open))


def _concerns(circuit: _Circuit, names: Collection[str]) -> bool:
    return len(circuit.names) > 1 or all(name in circuit.names for name in names)
