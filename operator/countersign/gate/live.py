"""Single objects read live from the API server, for what no watch holds: bounded in time, absent as None.

Every method raises a `ClusterError` when the API server cannot tell; `within` is in seconds.
"""

from typing import Final, TypeVar

from countersign.api import names
from countersign.api.admission import Namespace, ServiceAccount
from countersign.api.grant import WorkloadGrant
from countersign.api.pod import Pod
from countersign.api.secret import Secret
from countersign.cluster.client import ApiClient
from countersign.cluster.errors import NotFoundError
from countersign.cluster.owners import Owned
from countersign.cluster.resource import NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource
from countersign.trust.policies.policy import NamespaceFacts

T = TypeVar("T")

MAX_READ_SECONDS: Final = 2.0
"""The longest that one read may take, however much time the review has left."""
GRANTS: Final = Resource(names.GROUP, names.VERSION, WorkloadGrant.PLURAL, True)


class LiveReads:
    """What the gate asks the API server outside of its watches."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def namespace(self, name: str, within: float) -> NamespaceFacts | None:
        """A namespace's labels."""
        found = await self._get(NAMESPACES, name, Namespace, None, within)
        return NamespaceFacts(found.metadata.name, found.metadata.labels) if found else None

    async def pod(self, namespace: str, name: str, within: float) -> Pod | None:
        """A pod."""
        return await self._get(PODS, name, Pod, namespace, within)

    async def service_account(self, namespace: str, name: str, within: float) -> ServiceAccount | None:
        """A service account."""
        return await self._get(SERVICE_ACCOUNTS, name, ServiceAccount, namespace, within)

    async def secret(self, namespace: str, name: str, within: float) -> Secret | None:
        """A Secret. Raises ForbiddenError in a namespace whose pull secrets we were not given."""
        return await self._get(SECRETS, name, Secret, namespace, within)

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        """Any namespaced v1 object's metadata."""
        return await self._get(Resource(group, "v1", plural, True), name, Owned, namespace, within)

    async def grant(self, namespace: str, name: str, within: float) -> WorkloadGrant | None:
        """A WorkloadGrant."""
        return await self._get(GRANTS, name, WorkloadGrant, namespace, within)

    async def _get(
        self, resource: Resource, name: str, into: type[T], namespace: str | None, within: float
    ) -> T | None:
        try:
            return await self._client.get(
                resource, name, into, namespace=namespace, within=max(0.05, min(within, MAX_READ_SECONDS))
            )
        except NotFoundError:
            return None
