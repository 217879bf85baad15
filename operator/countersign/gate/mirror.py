"""Shadows of static pods: the kubelet alone makes them, and nothing of ours may stand in its way.

The API server takes the annotation that marks one from anybody who may create pods, so a pod that bears it is let past
only where a node asks.
"""

from countersign.access.minting import NODE_PREFIX, NODES_GROUP
from countersign.api.admission import UserInfo
from countersign.api.names import MIRROR_ANNOTATION
from countersign.api.pod import Pod, is_mirror
from countersign.gate.answers import Answer, allow, deny


def as_mirror(pod: Pod, user: UserInfo) -> Answer | None:
    """The answer to the creation of a mirror pod; None: it is none."""
    if not is_mirror(pod):
        return None
    if NODES_GROUP in user.groups and user.username.startswith(NODE_PREFIX):
        return allow("MirrorPod")
    return deny(
        "MirrorForged",
        f"MirrorForged: the annotation {MIRROR_ANNOTATION} marks what a kubelet made of its static pods, and "
        f"{user.username!r} is no node. Way out: leave it out",
    )
