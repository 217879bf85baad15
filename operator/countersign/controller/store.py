"""Writing to the cluster, each write fenced: a process that does not lead (any more) writes nothing."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from countersign.api.admission import ServiceAccount
from countersign.api.grant import WorkloadGrant, WorkloadGrantSpec, WorkloadGrantStatus
from countersign.api.meta import ObjectMeta
from countersign.api.names import POD_UID_LABEL
from countersign.api.node import Node
from countersign.api.objects import CustomResource, to_object
from countersign.api.pod import Pod
from countersign.cluster.client import ApiClient
from countersign.cluster.errors import AlreadyExistsError, ConflictError, NotFoundError
from countersign.cluster.lease import Lease
from countersign.cluster.owners import Owned
from countersign.cluster.resource import CONFIG_MAPS, LEASES, NODES, PODS, SERVICE_ACCOUNTS, Resource
from countersign.controller.resources import GRANTS, of_kind
from countersign.controller.watches.world import Account, account_of
from countersign.runtime.tracing.spans import child

NODE_LEASES: Final = "kube-node-lease"
"""Where kubelets keep their heartbeats (core/v1, NamespaceNodeLease)."""


class _ConfigMap(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


class NotLeadingError(Exception):
    """Another process may lead by now."""


class NameTakenError(Exception):
    """There is an object of that name already."""


class StaleError(Exception):
    """The object has changed, or is gone, since it was read."""


class Store:
    """Grants and statuses in the API server, and single objects read live."""

    def __init__(self, client: ApiClient, leads: Callable[[], bool]) -> None:
        self._client = client
        self._leads = leads

    async def create_grant(self, namespace: str, name: str, spec: WorkloadGrantSpec) -> WorkloadGrant:
        """A new grant, without a state. Raises NameTakenError."""
        self.fence()
        meta = ObjectMeta(name=name, namespace=namespace, labels={POD_UID_LABEL: spec.pod.uid})
        body = to_object(WorkloadGrant(metadata=meta, spec=spec))
        try:
            with child("grant.create", _of(namespace, name, spec)):
                return msgspec.convert(await self._client.create(GRANTS, body, namespace=namespace), WorkloadGrant)
        except AlreadyExistsError as error:
            raise NameTakenError(name) from error

    async def write_grant_status(self, grant: WorkloadGrant, status: WorkloadGrantStatus) -> WorkloadGrant:
        """The grant with that status. Raises StaleError if it is not as it was read."""
        meta = grant.metadata
        with child("grant.status", _of(meta.namespace, meta.name, grant.spec)) as span:
            span.set({"countersign.state": status.state or "", "countersign.reason": status.reason})
            written: WorkloadGrant = await self._write_status(grant, status, {"resourceVersion": meta.resource_version})
        return written

    async def write_status(self, resource: CustomResource, status: msgspec.Struct) -> None:
        """Write the status of a policy, audience or order. Raises StaleError if the object is gone."""
        await self._write_status(resource, status, {})

    async def delete_grant(self, grant: WorkloadGrant) -> None:
        """Delete the very grant that was read; gone already is as good."""
        self.fence()
        meta = grant.metadata
        try:
            with child("grant.delete", _of(meta.namespace, meta.name, grant.spec)):
                await self._client.delete(
                    GRANTS, meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version
                )
        except NotFoundError:
            return
        except ConflictError as error:
            raise StaleError(str(error)) from error

    async def read_grant(self, namespace: str, name: str) -> WorkloadGrant | None:
        """The grant of that name, live."""
        try:
            return await self._client.get(GRANTS, name, WorkloadGrant, namespace=namespace)
        except NotFoundError:
            return None

    async def read_pod(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name, live."""
        try:
            return await self._client.get(PODS, name, Pod, namespace=namespace)
        except NotFoundError:
            return None

    async def read_account(self, namespace: str, name: str) -> Account | None:
        """The service account of that name, live."""
        try:
            return account_of(await self._client.get(SERVICE_ACCOUNTS, name, ServiceAccount, namespace=namespace))
        except NotFoundError:
            return None

    async def read_node(self, name: str) -> Node | None:
        """The node of that name, live."""
        try:
            return await self._client.get(NODES, name, Node)
        except NotFoundError:
            return None

    async def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        """The texts in a ConfigMap, live; None: there is none."""
        try:
            return (await self._client.get(CONFIG_MAPS, name, _ConfigMap, namespace=namespace)).data
        except NotFoundError:
            return None

    async def node_lease(self, name: str) -> str | None:
        """The resourceVersion of a node's Lease, live; None: there is none."""
        try:
            lease = await self._client.get(LEASES, name, Lease, namespace=NODE_LEASES)
        except NotFoundError:
            return None
        return lease.metadata.resource_version

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        """Any namespaced v1 object's metadata (cluster.owners.OwnerLookup)."""
        resource = Resource(group, "v1", plural, True)
        try:
            return await self._client.get(resource, name, Owned, namespace=namespace, within=max(within, 0.05))
        except NotFoundError:
            return None

    def fence(self) -> None:
        """Raises NotLeadingError unless this process leads at this moment."""
        if not self._leads():
            raise NotLeadingError("this process does not lead")

    async def _write_status(self, resource: Any, status: msgspec.Struct, meta: dict[str, str]) -> Any:
        self.fence()
        kind = type(resource)
        namespace = resource.metadata.namespace or None
        patch: dict[str, Any] = {"status": explicit(status)}
        if meta:
            patch["metadata"] = meta
        try:
            return await self._client.merge_patch(
                of_kind(kind), resource.metadata.name, patch, kind, namespace=namespace, subresource="status"
            )
        except (ConflictError, NotFoundError) as error:
            raise StaleError(str(error)) from error


def explicit(status: msgspec.Struct) -> dict[str, Any]:
    """The status as a merge patch: what is empty is null, so that nothing of the old one stays (RFC 7396).

    Numbers are written out, zero too, so that they stand in the columns of `kubectl get`.
    """
    written: dict[str, Any] = {}
    for name, key in zip(status.__struct_fields__, status.__struct_encode_fields__, strict=True):
        value = getattr(status, name)
        if isinstance(value, int):
            written[key] = value
        elif isinstance(value, msgspec.Struct):
            written[key] = explicit(value)
        else:
            written[key] = msgspec.to_builtins(value) or None
    return written


def _of(namespace: str, name: str, spec: WorkloadGrantSpec) -> dict[str, str]:
    """The correlation keys of a grant, for its spans."""
    policies = " ".join(f"{one.kind}/{one.name}" for one in spec.policies)
    return {
        "countersign.grant": f"{namespace}/{name}",
        "countersign.policies": policies,
        "k8s.namespace.name": namespace,
        "k8s.pod.name": spec.pod.name,
        "k8s.pod.uid": spec.pod.uid,
    }
