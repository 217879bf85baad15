"""Who and what is being judged: the pod, and what Kubernetes vouches for around it."""

import msgspec

from countersign.api.admission import UserInfo
from countersign.api.pod import Pod
from countersign.trust.policies.policy import NamespaceFacts


class ControllerLink(msgspec.Struct, frozen=True, kw_only=True):
    """The top-level controller of a pod, each link resolved live by UID (None where nobody could vouch for it)."""

    api_group: str
    kind: str
    name: str
    uid: str


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One pod under judgement. Nothing in here but `pod` is written by the pod's author."""

    pod: Pod
    namespace: NamespaceFacts
    requester: UserInfo | None = None
    """Who asked for the pod's CREATE; None if nobody can say, which fails every `binding.requesters`."""
    controller: ControllerLink | None = None
    controller_known: bool = False
    """False: the chain was not resolved (as where its links cannot be read); `binding.controllers` then fails."""
