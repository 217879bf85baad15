"""Revocations that the gate gives: written to the API server, which is the only place that counts."""

import secrets
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog

from countersign.api import names
from countersign.api.grant import WorkloadGrant
from countersign.api.objects import to_object
from countersign.api.pod import Pod
from countersign.api.revocation import Revocation
from countersign.cluster.client import ApiClient
from countersign.cluster.errors import AlreadyExistsError, NotFoundError, UnavailableError
from countersign.cluster.resource import SELF_SUBJECT_REVIEWS, Resource
from countersign.grants.entry import Entry, ends_instance, order

REVOCATIONS: Final = Resource(names.GROUP, names.VERSION, Revocation.PLURAL, True)
MAX_CALL_SECONDS: Final = 2.0
"""The longest that one call may take, however much time the review has left: there are up to five."""

Left = Callable[[], float]
"""Seconds that are left for the answer."""

_log = structlog.get_logger()


class OrderWrites(Protocol):
    """What is asked of the API server. Each method raises ClusterError."""

    async def create_revocation(self, revocation: Revocation, within: float) -> None:
        """Store it. Raises AlreadyExistsError where the name is taken."""

    async def revocation(self, namespace: str, name: str, within: float) -> Revocation | None:
        """One Revocation, live."""

    async def username(self, within: float) -> str:
        """Who we are to the API server."""


class LiveOrders:
    """Orders by way of the API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._username = ""

    async def create_revocation(self, revocation: Revocation, within: float) -> None:
        """Store it. Raises ClusterError."""
        body: dict[str, Any] = to_object(revocation)
        await self._client.create(REVOCATIONS, body, namespace=revocation.metadata.namespace, within=_bounded(within))

    async def revocation(self, namespace: str, name: str, within: float) -> Revocation | None:
        """One Revocation, live. Raises ClusterError."""
        try:
            return await self._client.get(REVOCATIONS, name, Revocation, namespace=namespace, within=_bounded(within))
        except NotFoundError:
            return None

    async def username(self, within: float) -> str:
        """Who we are. Not every cluster fills in who asks, and the guard holds everybody to the truth."""
        if not self._username:
            body: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            answer = await self._client.create(SELF_SUBJECT_REVIEWS, body, within=_bounded(within))
            self._username = str(answer["status"]["userInfo"]["username"])
        return self._username


class Recorder:
    """Puts on record that somebody goes into a pod."""

    def __init__(self, writes: OrderWrites, system_namespace: str) -> None:
        self._writes = writes
        self._system_namespace = system_namespace

    async def record(self, pod: Pod, grant: WorkloadGrant | None, entry: Entry, left: Left) -> str:
        """The name of the Revocation that ends this instance, once the API server has it. Raises ClusterError.

        The name is the pod's, so that of many entries one is written. What stands there already counts only if it ends
        this very instance: whoever may create Revocations could have put a harmless one there.
        """
        made = order(pod, entry, requested_by=await self._writes.username(left()))
        name, namespace = made.metadata.name, made.metadata.namespace
        try:
            await self._writes.create_revocation(made, left())
            return name
        except AlreadyExistsError:
            pass
        except UnavailableError:
            # Whether it is there now, nobody has said.
            if await self._is_good(namespace, name, pod, grant, left):
                return name
            raise
        if await self._is_good(namespace, name, pod, grant, left):
            return name
        _log.warning("a Revocation that does not end the pod bears its name", namespace=namespace, name=name)
        other = order(pod, entry, requested_by=made.spec.requested_by, distinct=secrets.token_hex(4))
        await self._writes.create_revocation(other, left())
        return other.metadata.name

    async def _is_good(self, namespace: str, name: str, pod: Pod, grant: WorkloadGrant | None, left: Left) -> bool:
        found = await self._writes.revocation(namespace, name, left())
        return found is not None and ends_instance(found, pod, grant, self._system_namespace)


def _bounded(seconds: float) -> float:
    return max(0.05, min(seconds, MAX_CALL_SECONDS))
