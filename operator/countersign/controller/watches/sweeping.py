"""The sweep: list everything, and make what is known equal to it.

Watches are fast and may lose something; a list is slow and is true. So whatever vanished unseen (kopf tells nothing of
it) is found here: at the start, whenever kopf lists anew, and from time to time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from countersign.api.admission import Namespace, ServiceAccount
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot
from countersign.api.exception import TrustException
from countersign.api.grant import WorkloadGrant
from countersign.api.node import Node
from countersign.api.pause import AdmissionPause
from countersign.api.pod import Pod
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.cluster.client import ApiClient
from countersign.cluster.resource import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS, Resource
from countersign.controller.resources import (
    AUDIENCES,
    CLUSTER_POLICIES,
    EVIDENCE_ROOTS,
    EXCEPTIONS,
    GRANTS,
    PAUSES,
    POLICIES,
    REVOCATIONS,
)
from countersign.controller.watches.touched import NOTHING, Touched, merged
from countersign.controller.watches.watching import Sighting, Watched, slim
from countersign.controller.watches.world import World

PAGE_SIZE: Final = 100
"""Objects per page: about 10 ms of work, after which the loop may do something else."""
FIRST_PAGE_SIZE: Final = 200
"""While there is nothing else to do: the API server takes longer for each page than we do."""

_log = structlog.get_logger(__name__)

_KINDS: Final[tuple[tuple[Resource, type[Watched]], ...]] = (
    (CLUSTER_POLICIES, ClusterTrustPolicy),
    (POLICIES, TrustPolicy),
    (AUDIENCES, ProtectedAudience),
    (REVOCATIONS, Revocation),
    (EXCEPTIONS, TrustException),
    (PAUSES, AdmissionPause),
    (EVIDENCE_ROOTS, EvidenceRoot),
    (NAMESPACES, Namespace),
    (SERVICE_ACCOUNTS, ServiceAccount),
    (NODES, Node),
    (GRANTS, WorkloadGrant),
    (PODS, Pod),
)
"""Grants before pods: a pod is then never taken for one without a grant."""


class RestoredError(Exception):
    """etcd holds an older state than was listed before: it was restored from a snapshot."""


async def first_sweep(client: ApiClient, world: World) -> None:
    """List every kind at once, while nobody acts on what is known so far. Raises ClusterError, RestoredError."""
    listing = [
        asyncio.ensure_future(_sweep(client, world, resource, kind, lambda _: None, page_size=FIRST_PAGE_SIZE))
        for resource, kind in _KINDS
    ]
    try:
        await asyncio.gather(*listing)
    finally:
        for one in listing:
            one.cancel()
        await asyncio.wait(listing)


async def sweep(client: ApiClient, world: World, tell: Callable[[Touched], None]) -> None:
    """List every kind. `tell` hears of each page. Raises ClusterError: what was not listed to the end drops nothing.

    Raises RestoredError when the revision of a list falls: these lists are consistent ones, so it never does otherwise.
    """
    for resource, kind in _KINDS:
        await _sweep(client, world, resource, kind, tell)


async def _sweep(
    client: ApiClient,
    world: World,
    resource: Resource,
    kind: type[Watched],
    tell: Callable[[Touched], None],
    *,
    page_size: int = PAGE_SIZE,
) -> None:
    before = world.uids(kind)
    listed: set[str] = set()
    decode = msgspec.json.Decoder(kind).decode
    async for page in client.pages(resource, msgspec.Raw, page_size=page_size):
        _compare(world, kind, page.metadata.resource_version)
        touched = NOTHING
        for raw in page.items or ():
            listed.add(_identity.decode(raw).metadata.uid)
            try:
                found = slim(decode(raw))
            except msgspec.MsgspecError as error:
                _log.error("object cannot be read", kind=kind.__name__, error=str(error))
                continue
            touched = merged(touched, world.see(Sighting(found, gone=False, listed=False)))
        tell(touched)
    tell(world.vanished(kind, before, listed))


def _compare(world: World, kind: type[Watched], version: str) -> None:
    revision = int(version) if version.isdigit() else 0
    seen = world.revisions.get(kind, 0)
    if 0 < revision < seen:
        raise RestoredError(f"{kind.__name__}s were listed at revision {seen} before, and now at {revision}")
    world.revisions[kind] = max(seen, revision)


class _Meta(msgspec.Struct, frozen=True):
    uid: str


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta


_identity: Final = msgspec.json.Decoder(_Object)
