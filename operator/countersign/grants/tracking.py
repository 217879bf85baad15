"""What has been seen of one pod instance, over all sightings.

A watch shows each change, so most of what can spoil an instance is seen as it happens; what was seen once is kept,
since a later state may hide it (another image put back, a terminal phase or a report overwritten by a node). For what
happens unseen, between two lists, `metadata.generation` is the witness: the API server adds one for each write that
changes the spec (registry/core/pod/strategy.go, updatePodGeneration) and one for the first request to delete
(registry/rest/delete.go, BeforeDelete), and nobody can set it. Binding a pod to a node does not count.

An image changed and changed back takes two writes. So one write unseen is no more than it shows, and two are a change
that cannot be told from such a swap. Two in-place resizes within one gap look the same: they end the identity, too.
"""

from typing import Final, Literal

import msgspec

from countersign.api.pod import Pod
from countersign.grants.reports import MAX_REPORTS, Report, gathered, reports, undeclared
from countersign.trust.images.extraction import extract

MAX_UNSEEN_WRITES: Final = 1
"""Writes of the spec that may go unseen between two sightings. One more could have been there and back."""
MAX_ADDRESSES: Final = 16
"""Addresses that are kept; of more, those that were seen last."""


class PodTrack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instance as seen so far. Make it with `first_sight`, carry it on with `sighted`."""

    uid: str
    namespace: str
    name: str
    created_at: str
    node_name: str
    service_account: str
    images: tuple[tuple[str, str], ...]
    """Container (or `volume/<name>`) and image as at first sight, without ephemeral containers."""
    ephemeral: tuple[str, ...]
    first_writes: int
    """Writes of the spec, the creation included, up to the first sight; 0 where the API server does not count."""
    writes: int
    """The same up to the last sight. The deletion request is not one."""
    image_change: str = ""
    """How the images were seen to change, or why that cannot be ruled out; empty: they did not."""
    ended: Literal["", "Completed", "Failed"] = ""
    ended_as: str = ""
    """What the node said at the end (status.reason), such as Evicted."""
    bound_at: str = ""
    """When it was bound to its node, as first told (a node may rewrite conditions of its pods); empty: not bound."""
    deletion_timestamp: str | None = None
    """When its grace period is over (metadata.deletionTimestamp); None while it is not being deleted."""
    deletion_grace_seconds: int = 0
    restarted: bool = False
    """Some container of it was restarted, as all are when its sandbox is made anew."""
    addresses: tuple[str, ...] = ()
    """Every address that it was seen to have: a sandbox made anew may get another one."""
    reports: tuple[Report, ...] = ()
    """Every image that its node has told of (`grants.reports`), whatever it told later."""
    undeclared: tuple[str, ...] = ()
    """Containers that its node has told of and that were not in its spec."""


def first_sight(pod: Pod) -> PodTrack:
    """The track of a pod that was not known before."""
    writes = spec_writes(pod)
    return _as_of_now(
        PodTrack(
            uid=pod.metadata.uid,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            created_at=pod.metadata.creation_timestamp or "",
            node_name=pod.spec.node_name,
            service_account=pod.spec.service_account_name,
            images=images(pod),
            ephemeral=(),
            first_writes=writes,
            writes=writes,
        ),
        pod,
    )


def sighted(track: PodTrack, pod: Pod) -> PodTrack:
    """The track after one more sight of the same instance. What was seen once stays."""
    writes = spec_writes(pod)
    change = track.image_change
    if not change:
        new_ephemeral = len(pod.spec.ephemeral_containers) > len(track.ephemeral)
        change = image_difference(track.images, images(pod)) or unseen_change(track.writes, writes, new_ephemeral)
    return _as_of_now(msgspec.structs.replace(track, writes=max(writes, track.writes), image_change=change), pod)


def unseen_change(seen: int, writes: int, new_ephemeral: bool) -> str:
    """Why a change and its undoing cannot be ruled out between two counts of writes; empty if it can.

    Where the API server does not count (before Kubernetes 1.33), nothing can be told, and only images as seen count.
    """
    if not writes:
        return ""
    unseen = writes - max(seen, 1) - (1 if new_ephemeral else 0)
    if unseen <= MAX_UNSEEN_WRITES:
        return ""
    return (
        f"its spec was written {unseen} times unseen (metadata.generation), "
        "so an image may have been swapped and put back"
    )


def spec_writes(pod: Pod) -> int:
    """How often the spec was written, the creation included; 0 where the API server does not count."""
    going = 1 if pod.metadata.deletion_timestamp and pod.metadata.generation > 1 else 0
    return pod.metadata.generation - going


def images(pod: Pod) -> tuple[tuple[str, str], ...]:
    """Every image of the spec by container or `volume/<name>`, without ephemeral containers."""
    return tuple((use.container, use.image) for use in extract(pod) if use.kind != "ephemeral")


def image_difference(before: tuple[tuple[str, str], ...], after: tuple[tuple[str, str], ...]) -> str:
    """The first difference in words, empty if there is none. Order does not count."""
    was, now = dict(before), dict(after)
    for container in sorted(was.keys() | now.keys()):
        if was.get(container) != now.get(container):
            return f"{container} ran {was.get(container) or 'nothing'}, and then {now.get(container) or 'nothing'}"
    return ""


def _binding(pod: Pod) -> str:
    """When the pod was bound; a pod that was created with its node's name has no such condition at first."""
    if not pod.spec.node_name:
        return ""
    scheduled = next(
        (one for one in pod.status.conditions if one.type == "PodScheduled" and one.status == "True"), None
    )
    return (scheduled.last_transition_time if scheduled else None) or pod.metadata.creation_timestamp or ""


def _as_of_now(track: PodTrack, pod: Pod) -> PodTrack:
    ended, ended_as = track.ended, track.ended_as
    if not ended and pod.status.phase in ("Succeeded", "Failed"):
        ended, ended_as = ("Completed" if pod.status.phase == "Succeeded" else "Failed"), pod.status.reason
    seen = dict.fromkeys((*track.ephemeral, *(container.name for container in pod.spec.ephemeral_containers)))
    return msgspec.structs.replace(
        track,
        node_name=pod.spec.node_name or track.node_name,
        bound_at=track.bound_at or _binding(pod),
        ephemeral=tuple(seen),
        ended=ended,
        ended_as=ended_as,
        reports=gathered(track.reports, reports(pod)),
        undeclared=tuple(dict.fromkeys((*track.undeclared, *undeclared(pod))))[:MAX_REPORTS],
        deletion_timestamp=pod.metadata.deletion_timestamp or track.deletion_timestamp,
        deletion_grace_seconds=(
            pod.metadata.deletion_grace_period_seconds or 0
            if pod.metadata.deletion_timestamp
            else track.deletion_grace_seconds
        ),
        restarted=track.restarted or _has_restarted(pod),
        addresses=_addresses(track.addresses, pod),
    )


def _has_restarted(pod: Pod) -> bool:
    return any(one.restart_count for one in (*pod.status.container_statuses, *pod.status.init_container_statuses))


def _addresses(before: tuple[str, ...], pod: Pod) -> tuple[str, ...]:
    new = [one.ip for one in pod.status.pod_ips if one.ip and one.ip not in before]
    return (*before, *new)[-MAX_ADDRESSES:] if new else before
