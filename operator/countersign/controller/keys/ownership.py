"""Who owns what the controller writes, so that the cluster's garbage collector removes it after an uninstall.

    MutatingWebhookConfiguration, ValidatingWebhookConfiguration   ClusterRole     countersign-controller
    Secrets, ConfigMap, Lease of our namespace                     ServiceAccount  countersign-controller

Both owners are objects of the chart. When they go, nothing of ours has to run for the rest to go: the collector does
it, whatever state our image is in. Helm deletes the ClusterRoleBinding before the ClusterRole (Helm's UninstallOrder),
so a controller that is still ending can no longer write the configurations anew. Two owners, since an object of the
cluster cannot belong to one of a namespace (k8s
pkg/controller/garbagecollector, namespacedOwnerOfClusterScopedObjectErr).

A reference counts by UID: one to an owner that was deleted and made again is dangling, and the collector would delete
the object. So each check compares it and repairs it.
"""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from countersign.api.meta import OwnerReference
from countersign.cluster.client import ApiClient, Object
from countersign.cluster.errors import ApiError, ForbiddenError, NotFoundError
from countersign.cluster.resource import SERVICE_ACCOUNTS, Resource

OWNER_NAME: Final = "countersign-controller"
"""Both owners' name: the chart gives it."""
CLUSTER_ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", False)

_log = structlog.get_logger(__name__)


class OwnerGoneError(ApiError):
    """The owner was there and is gone: Countersign is being uninstalled, and nothing may be written that would stay."""


class Owner:
    """One object of the chart, looked up by name at each check."""

    def __init__(self, client: ApiClient, resource: Resource, kind: str, namespace: str | None = None) -> None:
        self._client = client
        self._resource = resource
        self._kind = kind
        self._namespace = namespace
        self._known = False
        self._told = False

    async def find(self) -> OwnerReference | None:
        """A reference to it, live; None if it is not there or may not be read (then what is stored is left as it is).

        Raises OwnerGoneError if it was there before, and ClusterError.
        """
        try:
            found = await self._client.get(self._resource, OWNER_NAME, dict[str, Any], namespace=self._namespace)
        except NotFoundError as error:
            if self._known:
                raise OwnerGoneError(
                    404, "NotFound", f"{self._kind} {OWNER_NAME} is gone: nothing is written that would stay behind"
                ) from error
            self._tell(f"there is no {self._kind} {OWNER_NAME}")
            return None
        except ForbiddenError:
            self._tell(f"{self._kind} {OWNER_NAME} may not be read")
            return None
        self._known = True
        return OwnerReference(
            api_version=self._resource.api_version, kind=self._kind, name=OWNER_NAME, uid=found["metadata"]["uid"]
        )

    def _tell(self, why: str) -> None:
        if not self._told:
            _log.warning("objects are written without an owner and will outlive an uninstall", why=why)
            self._told = True


class Owners:
    """The two owners of one installation."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self.cluster = Owner(client, CLUSTER_ROLES, "ClusterRole")
        self.namespaced = Owner(client, SERVICE_ACCOUNTS, "ServiceAccount", namespace)


def references(owner: OwnerReference | None) -> list[Object]:
    """`metadata.ownerReferences` of a new object. Neither `controller` nor `blockOwnerDeletion`: it only has to go."""
    return [] if owner is None else [_plain(owner)]


def repaired(stored: Object, owner: OwnerReference | None) -> list[Object] | None:
    """The references that the stored object should have, or None if it has them. Those of others stay."""
    if owner is None:
        return None
    held: Sequence[Object] = stored.get("metadata", {}).get("ownerReferences") or ()
    others = [one for one in held if (one.get("kind"), one.get("name")) != (owner.kind, owner.name)]
    wanted = [*others, _plain(owner)]
    ours = [one for one in held if one not in others]
    return None if [one.get("uid") for one in ours] == [owner.uid] else wanted


def _plain(owner: OwnerReference) -> Object:
    return {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
