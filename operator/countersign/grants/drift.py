"""Drift: whether the instance still is what was admitted, as far as its node and its labels tell.

Three answers, not two. *Drifted*: what is seen cannot be the admitted instance. *Unclear*: it may well be, but nothing
proves it; that is reported and never punished, since a stranger on the same node can bring it about (`grants.reports`
says how). And nothing. What the evidence does not know, such as the configs of an image that no rule asked for, is no
reason for either.

A node that lies is believed here as everywhere: drift shows what an honest node was made to run.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from countersign.api.grant import GrantImage, WorkloadGrant
from countersign.api.meta import Condition, condition
from countersign.grants.conditions import with_condition
from countersign.grants.naming import is_refused
from countersign.grants.reports import digest_of, is_id
from countersign.grants.tracking import PodTrack
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import Policy, PolicySnapshot
from countersign.trust.policies.scope import governing
from countersign.trust.receipt import NODE_LABELS, Receipt, as_admitted

CONDITION: Final = "Drifted"
"""Condition of a grant: what was seen once is on record there, whatever restarts. Unknown: unclear."""

MAX_KNOWN: Final = 64
"""Bound of GrantImage.runtime_digests (api.grant): a list that is full may lack some."""
MAX_TOLD: Final = 3
"""Labels and policies that a message names."""


class Drift(NamedTuple):
    """What was found, with what was expected; empty: nothing."""

    found: str = ""
    caused_by: str = ""
    unclear: str = ""
    """Set only where nothing was found for certain."""


NO_DRIFT: Final = Drift()


class Moved(NamedTuple):
    """How labels have moved a pod among the policies."""

    found: str = ""
    unclear: str = ""


UNMOVED: Final = Moved()


class LabelsSeen(NamedTuple):
    """Labels that a pod was seen with, and how many changes of policies had been seen by then."""

    labels: Mapping[str, str]
    policy_changes: int = 0


def drift(grant: WorkloadGrant, track: PodTrack, moved: Moved = UNMOVED) -> Drift:
    """How the instance differs from what its grant records. A refused pod was never admitted, so it cannot drift."""
    if is_refused(grant.metadata.name):
        return NO_DRIFT
    node = f"Node {track.node_name}" if track.node_name else ""
    if track.undeclared:
        names = ", ".join(track.undeclared)
        return Drift(f"Its node reports a container that is not in its spec: expected none, found {names}.", node)
    told = _image_drift(grant.spec.images, track)
    if told.found:
        return told
    granted = grant.spec.pod.node_name
    if granted and track.node_name and granted != track.node_name:
        return Drift(f"It is bound to another node: expected {granted}, found {track.node_name}.", node)
    pod = f"Pod {grant.metadata.namespace}/{grant.spec.pod.name}"
    if moved.found:
        return Drift(moved.found, pod)
    recorded = condition(grant.status.conditions, CONDITION)
    if recorded is not None and recorded.status == "True":
        return Drift(recorded.message, grant.status.caused_by if grant.status.reason == "Drifted" else node)
    return told if told.unclear else Drift(unclear=moved.unclear)


def on_record(grant: WorkloadGrant, found: str, unclear: str, now: datetime) -> tuple[Condition, ...]:
    """The grant's conditions with what was found now (`Drift`). This one only ever becomes more certain."""
    conditions = grant.status.conditions
    recorded = condition(conditions, CONDITION)
    if (not found and not unclear) or (recorded is not None and (recorded.status == "True" or not found)):
        return conditions
    status, reason = (True, "Drifted") if found else (None, "Unclear")
    return with_condition(conditions, CONDITION, status, reason, found or unclear, generation=1, now=now)


def _image_drift(images: Iterable[GrantImage], track: PodTrack) -> Drift:
    """What its node has ever told of its images, against every digest that the evidence knows of them."""
    if not track.reports:
        return NO_DRIFT
    admitted = {image.container: image for image in images}
    unclear = ""
    for place, told in track.reports:
        image = admitted.get(place)
        if image is None or not _is_complete(image):
            continue
        digest = digest_of(told)
        if digest in image.runtime_digests:
            continue
        expected = f"expected {image.digest} or one of the {len(image.runtime_digests) - 1} manifests and configs of it"
        if is_id(told):
            said = f"{place} runs another image, as node {track.node_name} reports: {expected}, found {told}."
            return Drift(said, f"Node {track.node_name}")
        unclear = unclear or (
            f"Node {track.node_name} knows the image of {place} by a name that the evidence does not have: {expected}, "
            f"found {told}. It may be another index over the same content."
        )
    return Drift(unclear=unclear)


def _is_complete(image: GrantImage) -> bool:
    """Whether the evidence knows all that a node may report: a digest without any config below it is not all."""
    return 1 < len(image.runtime_digests) < MAX_KNOWN


def moved_by_labels(
    snapshot: PolicySnapshot,
    live: Subject,
    receipt: Receipt | None,
    seen: Sequence[LabelsSeen],
    arrivals: Mapping[str, int],
) -> Moved:
    """Whether its labels, as they are or were since the last look, make other policies govern than those of admission.

    `seen`: every set of labels since the last judgement, the one of then first; empty: they have not changed, or nobody
    has looked before. `arrivals`: by UID of a policy, which change of policies brought its present generation.

    A change of labels that changes no policy is nothing. Nor is a change of *policies*: one that came, or was edited,
    after the labels had been changed moves nobody. So a policy is only held against labels that were seen to change
    while it was known, or that it is known to be older than: the receipt names it in its present generation, or it is
    older than the pod and was never edited. Otherwise it is unclear.
    """
    if receipt is None:
        return UNMOVED
    labels = live.pod.metadata.labels
    if all(same_labels(one, receipt.labels) for one in (labels, *(sight.labels for sight in seen))):
        return UNMOVED
    then = _governing(snapshot, as_admitted(receipt, live))
    born = live.pod.metadata.creation_timestamp or ""
    known = {one.uid: one.generation for one in receipt.policies}
    before: dict[str, Policy] | None = None
    unclear = UNMOVED
    for sight in seen or (LabelsSeen(labels),):
        now = _governing(snapshot, _with_labels(live, sight.labels, receipt))
        others = _differing(then, now)
        turned = _differing(before, now) if before is not None else {}
        told = _told(others, now, receipt.labels, sight.labels) if others else ""
        for uid, policy in others.items():
            settled = known.get(uid) == policy.ref.generation or (
                uid not in known and policy.ref.generation == 1 and policy.created < born
            )
            if settled or (uid in turned and arrivals.get(uid, 0) <= sight.policy_changes):
                return Moved(found=told)
            unclear = Moved(unclear=f"{told} The policy is newer than the change of labels, or may be.")
        before = now
    return unclear


def _governing(snapshot: PolicySnapshot, subject: Subject) -> dict[str, Policy]:
    return {policy.ref.uid: policy for policy in governing(snapshot, subject)}


def _differing(one: dict[str, Policy], other: dict[str, Policy]) -> dict[str, Policy]:
    return {uid: policy for uid, policy in {**one, **other}.items() if (uid in one) != (uid in other)}


def same_labels(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether they are the same, but for what binding copies from the node."""
    return _own(one) == _own(other)


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key not in NODE_LABELS}


def _with_labels(live: Subject, labels: Mapping[str, str], receipt: Receipt) -> Subject:
    """The live pod under these labels, and those of its admission in place of what its binding copies from the node."""
    kept = {key: value for key, value in receipt.labels.items() if key in NODE_LABELS}
    metadata = msgspec.structs.replace(live.pod.metadata, labels={**_own(labels), **kept})
    return msgspec.structs.replace(live, pod=msgspec.structs.replace(live.pod, metadata=metadata))


def _told(others: dict[str, Policy], now: dict[str, Policy], then: Mapping[str, str], labels: Mapping[str, str]) -> str:
    left = [str(policy.ref) for uid, policy in others.items() if uid not in now][:MAX_TOLD]
    entered = [str(policy.ref) for uid, policy in others.items() if uid in now][:MAX_TOLD]
    moves = [f"{way} {', '.join(names)}" for way, names in (("out of", left), ("into", entered)) if names]
    keys = [key for key in sorted({**then, **labels}) if key not in NODE_LABELS and then.get(key) != labels.get(key)]
    expected = ", ".join(_label(then, key) for key in keys[:MAX_TOLD])
    found = ", ".join(_label(labels, key) for key in keys[:MAX_TOLD])
    return f"Its labels were moved {' and '.join(moves)}: expected {expected}, found {found}."


def _label(labels: Mapping[str, str], key: str) -> str:
    return f"{key}={labels[key]}" if key in labels else f"no {key}"
