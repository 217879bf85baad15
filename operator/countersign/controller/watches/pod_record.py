"""What the controller keeps of one pod: its body, what was seen of it, and how it was judged."""

from typing import Final

import msgspec

from countersign.api.meta import ObjectMeta
from countersign.api.pod import Pod, PodStatus
from countersign.controller.evidence.outlook import Outlook
from countersign.grants.drift import UNMOVED, LabelsSeen, Moved
from countersign.grants.lifecycle import Qualification, Transition
from countersign.grants.tracking import PodTrack, first_sight, sighted
from countersign.grants.withdrawal import EvidenceNow
from countersign.trust.pods.subject import ControllerLink

MAX_LABELS_SEEN: Final = 16
"""Sets of labels that are kept of one pod until it is judged: that of the last judgement, and the last ones."""


_encode = msgspec.msgpack.Encoder().encode
_decode_pod = msgspec.msgpack.Decoder(Pod).decode
_NO_STATUS: Final = PodStatus()


class PodRecord:
    """One pod. The body is kept encoded: it is read when policies change, and takes a third of the room."""

    __slots__ = (
        "body",
        "bound_to",
        "controller",
        "evidence",
        "final",
        "fresh",
        "gone",
        "judged",
        "labels_seen",
        "moved",
        "outlook",
        "qualification",
        "track",
        "version",
    )

    def __init__(self, pod: Pod, *, fresh: bool) -> None:
        self.fresh = fresh
        """It was created while this process ran, so no restored etcd brought it back."""
        self.body = _encode(_without_status(pod))
        self.version = version_of(pod.metadata)
        self.track: PodTrack = first_sight(pod)
        self.gone = False
        self.judged = False
        """Whether `qualification` is of the policies and the pod of now."""
        self.qualification: Qualification | None = None
        """None once judged: no policy governs it."""
        self.evidence: EvidenceNow | None = None
        """How its evidence stands, if it can turn; None: it cannot, or nobody has looked since the pod changed."""
        self.outlook: Outlook | None = None
        """What would become of it if it were created now; None: not looked at yet, or not since it changed."""
        self.final: Transition | None = None
        """How its grant became final, so that deleting the grant does not undo it."""
        self.bound_to = ""
        """UID of its node when it was first seen there; empty: not known yet."""
        self.controller: tuple[ControllerLink | None, bool] | None = None
        """The resolved controller, and whether somebody vouches for it; None: not asked yet. Links never change."""
        self.labels_seen: tuple[LabelsSeen, ...] = ()
        """Each set of labels since it was judged, that of then first, so that none is hidden by a later one."""
        self.moved: Moved = UNMOVED
        """How its labels were seen to move it among the policies. What was found once stays."""

    def see(self, pod: Pod, policy_changes: int) -> bool:
        """Take in another sight of it; whether anything changed that a judgement reads.

        `policy_changes`: how many changes of policies have been seen so far.
        """
        before = self.pod()
        self.track = sighted(self.track, pod)
        self.version = version_of(pod.metadata)
        self.body = _encode(_without_status(pod))
        if pod.metadata.labels != before.metadata.labels:
            sights = self.labels_seen or (LabelsSeen(before.metadata.labels),)
            self.labels_seen = (*sights, LabelsSeen(pod.metadata.labels, policy_changes))
            if len(self.labels_seen) > MAX_LABELS_SEEN:
                self.labels_seen = (self.labels_seen[0], *self.labels_seen[-MAX_LABELS_SEEN + 1 :])
        return (before.spec, before.metadata.labels, before.metadata.annotations) != (
            pod.spec,
            pod.metadata.labels,
            pod.metadata.annotations,
        )

    def pod(self) -> Pod:
        """The pod as last seen, without its status: `track` has what is kept of that."""
        return _decode_pod(self.body)


def version_of(meta: ObjectMeta) -> int:
    """The resourceVersion as a number, by which sights are put in order: opaque until KEP-5504; 0: it is none."""
    return int(meta.resource_version) if meta.resource_version.isdigit() else 0


def _without_status(pod: Pod) -> Pod:
    return msgspec.structs.replace(pod, status=_NO_STATUS)
