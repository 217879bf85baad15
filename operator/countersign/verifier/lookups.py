"""A pod that no watch has shown yet, read live. Each UID at most once a second, so many at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from countersign.access.pod_view import PodView
from countersign.cluster.errors import ClusterError
from countersign.runtime.logs import pod_keys

_log = structlog.get_logger(__name__)

REMEMBER_SECONDS: Final = 1.0
"""How long an answer is used again: the watch is to tell within that, and a pod that is gone stays gone."""
MAX_IN_FLIGHT: Final = 32
MAX_REMEMBERED: Final = 4096

ReadPod = Callable[[str, str], Awaitable[PodView | None]]
"""Reads the pod of a namespace and name; None if there is none. Raises ClusterError."""


class PodLookup:
    """Reads pods by UID through `read`."""

    def __init__(self, read: ReadPod, clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._found: dict[str, tuple[float, PodView | None]] = {}
        self._running: dict[str, asyncio.Task[PodView | None]] = {}

    async def find(self, namespace: str, name: str, uid: str) -> PodView | None:
        """The pod of that UID. None if there is none, or if nobody can say now: unknown is inactive."""
        known = self._found.get(uid)
        if known is not None and self._clock() - known[0] < REMEMBER_SECONDS:
            return known[1]
        task = self._running.get(uid)
        if task is None:
            if len(self._running) >= MAX_IN_FLIGHT:
                return None
            task = self._running[uid] = asyncio.create_task(self._look(namespace, name, uid))
            task.add_done_callback(lambda _: self._running.pop(uid, None))
        # One asker's disconnection must not end the reading for the others.
        return await asyncio.shield(task)

    async def _look(self, namespace: str, name: str, uid: str) -> PodView | None:
        try:
            pod = await self._read(namespace, name)
        except ClusterError as error:
            _log.warning("pod not looked up", **pod_keys(namespace, name, uid), error=str(error))
            return None
        found = pod if pod is not None and pod.uid == uid else None
        while len(self._found) >= MAX_REMEMBERED:
            del self._found[next(iter(self._found))]
        self._found.pop(uid, None)
        self._found[uid] = (self._clock(), found)
        return found
