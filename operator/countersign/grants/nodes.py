"""Whether a pod's node is still the machine that the pod was bound to, and since when it has been silent.

A node that is lost tells nothing of its pods any more: they may run, with tokens at hand, or not; unknown is inactive.
Kubernetes itself counts a node as lost when its Ready condition is not True (the node-lifecycle controller writes
Unknown after node-monitor-grace-period), and evicts its pods 300 s later by a toleration that each pod is given
(plugin/pkg/admission/defaulttolerationseconds). A node object that is gone, or that is younger than the binding of the
pod, is no longer that machine: whoever joined under the same name would inherit the pods.

Clocks. Creation of a node and binding of a pod are stamped by API servers, in whole seconds: with several API servers a
node may look younger than the pod that was bound to it a moment later, so CLOCK_SKEW_SECONDS are allowed. A node that
is replaced within that time of a binding is only told by its UID, by a controller that saw both. The time since when a
node is not Ready is stamped by whoever wrote the condition, and compared with our own clock.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from countersign.api import clock
from countersign.api.node import Node
from countersign.grants.tracking import PodTrack

CLOCK_SKEW_SECONDS: Final = 5
"""How far the clocks of two API servers may differ (the same that receipts allow)."""


_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of a node."""

    name: str
    uid: str
    created: str
    unready_since: str = ""
    """Since when it is not Ready; empty: it is."""


class NodeSight(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a pod's node stands. `replaced` says how, empty if it is the machine of the binding."""

    name: str
    replaced: str = ""
    unready_since: datetime | None = None


def node_facts(node: Node, before: NodeFacts | None = None) -> NodeFacts:
    """What is kept of a node. `before`: what was known of it, so that False that turns into Unknown stays one outage.

    Without a Ready condition, or with an unreadable time, it counts as not Ready since its creation.
    """
    created = node.metadata.creation_timestamp or ""
    ready = next((one for one in node.status.conditions if one.type == "Ready"), None)
    since = ""
    if ready is None or ready.status != "True":
        since = (ready.last_transition_time if ready else None) or created
        if before is not None and before.uid == node.metadata.uid and before.unready_since:
            since = min(since, before.unready_since)
    return NodeFacts(name=node.metadata.name, uid=node.metadata.uid, created=created, unready_since=since)


def sight_of(track: PodTrack, node: NodeFacts | None, bound_to: str) -> NodeSight | None:
    """How the pod's node stands; None while it is bound to none.

    `node`: the node of that name, None if there is none, which somebody made sure of. `bound_to`: UID of the node of
    that name when the pod was first seen on it; empty if that is not known.
    """
    if not track.node_name:
        return None
    if node is None:
        return NodeSight(name=track.node_name, replaced=f"node {track.node_name} does not exist any more")
    replaced = ""
    if bound_to and node.uid != bound_to:
        replaced = f"node {node.name} was replaced by another of its name ({bound_to} by {node.uid})"
    elif _younger(node.created, track.bound_at):
        replaced = f"node {node.name} was created at {node.created}, after the pod was bound to it at {track.bound_at}"
    since = None
    if node.unready_since:
        since = _moment(node.unready_since) or _moment(node.created) or _LONG_AGO
    return NodeSight(name=node.name, replaced=replaced, unready_since=since)


def lost_at(sight: NodeSight | None, patience: int | None) -> datetime | None:
    """When the node counts as lost, which may be over; None: it is Ready, or the policies keep what runs on it."""
    if sight is None or sight.unready_since is None or patience is None:
        return None
    return sight.unready_since + timedelta(seconds=patience)


def _younger(created: str, bound_at: str) -> bool:
    born, bound = _moment(created), _moment(bound_at)
    return born is not None and bound is not None and born > bound + timedelta(seconds=CLOCK_SKEW_SECONDS)


def _moment(text: str | None) -> datetime | None:
    try:
        return clock.parse(text) if text else None
    except ValueError:
        return None
