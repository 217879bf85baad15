"""Which nodes have been heard from since this process began: those whose Lease in kube-node-lease moved meanwhile.

A kubelet renews that Lease each 10 s (pkg/kubelet/kubelet.go, nodeLeaseRenewIntervalFraction of 40 s), and no other
identity than the node's own may write it (plugin/pkg/admission/noderestriction). Two looks that differ prove that the
kubelet lives and talks to this very API server, whatever the clocks say and whatever a restored etcd says of the node.
"""

from collections.abc import Awaitable, Callable
from typing import Final

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at one node's Lease, however many pods of it wait."""
QUICK_LOOKS: Final = 60
LOOK_SELDOM: Final = 10.0
"""A node that was not heard from in so many looks is likely to be gone: then only each so many seconds."""


class NodeContact:
    """Asked about nodes only while grants of another epoch wait."""

    def __init__(self, read: Callable[[str], Awaitable[str | None]], clock: Callable[[], float]) -> None:
        """`read`: the resourceVersion of a node's Lease, None if there is none. `clock`: monotonic seconds."""
        self._read = read
        self._clock = clock
        self._first: dict[str, str] = {}
        self._looked: dict[str, float] = {}
        self._looks: dict[str, int] = {}
        self._heard: set[str] = set()

    async def heard(self, node: str) -> bool:
        """Whether the node has been heard from. A pod that is bound to none has nothing to be heard from."""
        if not node or node in self._heard:
            return True
        now = self._clock()
        if now - self._looked.get(node, float("-inf")) < self.pause(node):
            return False
        self._looked[node] = now
        self._looks[node] = self._looks.get(node, 0) + 1
        version = await self._read(node)
        if version is not None and version != self._first.setdefault(node, version):
            self._heard.add(node)
        return node in self._heard

    def pause(self, node: str) -> float:
        """Seconds until it is worth asking again."""
        return LOOK_EVERY if self._looks.get(node, 0) <= QUICK_LOOKS else LOOK_SELDOM
