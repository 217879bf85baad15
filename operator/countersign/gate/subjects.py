"""Who and what a review is about, with all that Kubernetes vouches for: namespace labels, requester, controller."""

import asyncio
from typing import Final, NamedTuple, TypeVar

import msgspec
import structlog

from countersign.api.admission import AdmissionRequest, UserInfo
from countersign.api.pod import Pod
from countersign.cluster.errors import ClusterError
from countersign.cluster.owners import UNKNOWN, ControllerLinks
from countersign.gate.answers import RefuseNow, malformed, retry_later
from countersign.gate.state import GateState
from countersign.runtime.logs import pod_keys
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import NamespaceFacts, Policy
from countersign.trust.policies.scope import governing

T = TypeVar("T")

LINK_SECONDS: Final = 2.0
"""For the whole chain of a pod's controllers: what is left of the time belongs to the registry."""

_log = structlog.get_logger()


class Governed(NamedTuple):
    """A subject and the policies that govern it."""

    subject: Subject
    policies: tuple[Policy, ...]
    unresolved: bool = False
    """The pod's controllers could not be read just now: what rests on them is not final."""


class Subjects:
    """Makes subjects out of pods."""

    def __init__(self, state: GateState, links: ControllerLinks) -> None:
        self._state = state
        self._links = links

    async def of(self, pod: Pod, namespace: str, requester: UserInfo | None, until: float) -> Governed:
        """The subject of a pod in `namespace` (the request's, never the object's own word for it).

        Raises RefuseNow if the namespace or a policy cannot be read.
        """
        found = await self.plain(pod, namespace, requester, until)
        subject, policies = found.subject, found.policies
        if not any(policy.spec.binding.controllers for policy in policies):
            return found
        try:
            links = await self._links.resolve(pod, namespace, min(LINK_SECONDS, _left(until)))
            unresolved = False
        except ClusterError as error:
            _log.warning(
                "controllers cannot be read",
                **pod_keys(namespace, pod.metadata.name or pod.metadata.generate_name, pod.metadata.uid),
                error=str(error),
            )
            links, unresolved = UNKNOWN, True
        subject = msgspec.structs.replace(subject, controller=links.link, controller_known=links.known)
        return Governed(subject, policies, unresolved)

    async def plain(self, pod: Pod, namespace: str, requester: UserInfo | None, until: float) -> Governed:
        """The same without the pod's controllers, which no selector asks for. Raises RefuseNow."""
        unreadable = self._state.unreadable(namespace)
        if unreadable:
            raise RefuseNow(
                retry_later(
                    "PolicyUnreadable",
                    f"PolicyUnreadable: {unreadable} cannot be read by this release of Countersign's gate, so nothing "
                    "is admitted past it: update Countersign, or correct the object",
                )
            )
        facts = self._state.known_namespace(namespace) or await self._live_namespace(namespace, until)
        subject = Subject(pod=pod, namespace=facts, requester=requester)
        return Governed(subject, governing(self._state.snapshot, subject))

    async def _live_namespace(self, namespace: str, until: float) -> NamespaceFacts:
        try:
            facts = await self._state.namespace(namespace, _left(until))
        except ClusterError as error:
            _log.warning("namespace cannot be read", namespace=namespace, error=str(error))
            facts = None
        if facts is None:
            text = f"could not read namespace {namespace} in time, will be retried"
            raise RefuseNow(retry_later("NamespaceUnknown", text))
        return facts

    def with_pod(self, subject: Subject, pod: Pod) -> Subject:
        """The same subject with another state of its pod."""
        return msgspec.structs.replace(subject, pod=pod)


def _left(until: float) -> float:
    return until - asyncio.get_running_loop().time()


def read(raw: msgspec.Raw, decoder: msgspec.json.Decoder[T], what: str) -> T:
    """An object of the review. Raises RefuseNow if it is absent or not of the shape that its kind has."""
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefuseNow(malformed(f"{what} of this request cannot be read: {str(error)[:200]}")) from None


POD: Final = msgspec.json.Decoder(Pod)


def pod_of(request: AdmissionRequest) -> Pod:
    """The pod of the request. Raises RefuseNow."""
    return read(request.object, POD, "the pod")


def old_pod_of(request: AdmissionRequest) -> Pod:
    """The pod before an UPDATE. Raises RefuseNow."""
    return read(request.old_object, POD, "the pod's old state")
