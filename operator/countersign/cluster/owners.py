"""A pod's top-level controller, each link read live and compared by UID.

An owner reference is written by the object's author; that the built-in controllers alone may write those that name
built-in kinds is held by the ValidatingAdmissionPolicy `countersign-owners`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from countersign.api.meta import ObjectMeta, OwnerReference
from countersign.api.pod import Pod
from countersign.api.schema import Model
from countersign.trust.pods.subject import ControllerLink

MAX_LINKS: Final = 8
"""ReplicaSet and Deployment are two, Job and CronJob too; more is no chain that a built-in controller makes."""
CACHE_SECONDS: Final = 10.0
"""How long an object's own controller reference is remembered: a Deployment's pods come in bursts."""
CACHE_SIZE: Final = 4096

PLURALS: Final[Mapping[tuple[str, str], str]] = {
    ("", "ReplicationController"): "replicationcontrollers",
    ("apps", "ReplicaSet"): "replicasets",
    ("apps", "Deployment"): "deployments",
    ("apps", "StatefulSet"): "statefulsets",
    ("apps", "DaemonSet"): "daemonsets",
    ("batch", "Job"): "jobs",
    ("batch", "CronJob"): "cronjobs",
}
"""Resources of the kinds whose owner references only the built-in controllers may write."""


class Owned(Model, frozen=True, kw_only=True):
    """Any object, as far as its owners."""

    metadata: ObjectMeta = ObjectMeta()


class OwnerLookup(Protocol):
    """Reads one object live."""

    async def owned(self, group: str, plural: str, namespace: str, name: str, within: float) -> Owned | None:
        """The object, or None if there is none. Raises the client's own error when it cannot be told."""


class Resolved(NamedTuple):
    """What is known of a pod's controller. `known` False: no rule about controllers may be taken to hold."""

    link: ControllerLink | None
    known: bool


UNKNOWN: Final = Resolved(None, False)


class _Link(NamedTuple):
    # All that the reference claims: a true UID under a false name must not meet what was found for the true one.
    group: str
    kind: str
    namespace: str
    name: str
    uid: str


class _Seen(msgspec.Struct, frozen=True):
    at: float
    owner: OwnerReference | None


class ControllerLinks:
    """Resolves chains, and remembers each link for a moment."""

    def __init__(self, lookup: OwnerLookup, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._seen: OrderedDict[_Link, _Seen] = OrderedDict()

    async def resolve(self, pod: Pod, namespace: str, within: float) -> Resolved:
        """The top of the pod's chain; UNKNOWN where a link is missing, forged, or of a kind that nobody vouches for.

        `within`: seconds for the whole chain. Raises the lookup's error when the API server does not answer.
        """
        until = self._clock() + within
        owner = controller_of(pod.metadata)
        if owner is None:
            return Resolved(None, True)
        for _ in range(MAX_LINKS):
            group = owner.api_version.rpartition("/")[0]
            plural = PLURALS.get((group, owner.kind))
            if plural is None:
                return UNKNOWN
            link = _Link(group, owner.kind, namespace, owner.name, owner.uid)
            seen = self._remembered(link)
            if seen is None:
                found = await self._lookup.owned(group, plural, namespace, owner.name, until - self._clock())
                if found is None or not owner.uid or found.metadata.uid != owner.uid:
                    return UNKNOWN
                seen = self._remember(link, controller_of(found.metadata))
            if seen.owner is None:
                return Resolved(ControllerLink(api_group=group, kind=owner.kind, name=owner.name, uid=owner.uid), True)
            owner = seen.owner
        return UNKNOWN

    def _remembered(self, link: _Link) -> _Seen | None:
        seen = self._seen.get(link)
        if seen is not None and self._clock() - seen.at > CACHE_SECONDS:
            del self._seen[link]
            return None
        return seen

    def _remember(self, link: _Link, owner: OwnerReference | None) -> _Seen:
        seen = self._seen[link] = _Seen(self._clock(), owner)
        while len(self._seen) > CACHE_SIZE:
            self._seen.popitem(last=False)
        return seen


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """The owner that manages the object, if one claims to (apimachinery, GetControllerOf)."""
    return next((owner for owner in meta.owner_references if owner.controller), None)
