from __future__ import annotations

import msgspec
import pytest

from countersign.api.grant import WorkloadGrant
from countersign.api.pod import (
    ContainerStatus,
    ImageVolumeStatus,
    Pod,
    PodStatus,
    Volume,
    VolumeMountStatus,
    VolumeStatus,
)
from countersign.api.pod import ImageVolume as ImageSource
from countersign.grants.drift import CONDITION, UNMOVED, LabelsSeen, Moved, drift, moved_by_labels, on_record
from countersign.grants.naming import refused_name
from countersign.grants.reports import MAX_NAME, reports, told
from countersign.grants.tracking import PodTrack, first_sight, sighted
from countersign.trust.policies.policy import Policy
from tests.unit.grants.build import POLICY, active, admitted, at, live, stamp, with_debugger
from tests.unit.trust.build import cluster_policy, snapshot

DIGEST = "sha256:" + "e" * 64
HEX = "d" * 64


@pytest.mark.parametrize(
    ("image_id", "image", "found"),
    [
        (f"registry.example.com/api@{DIGEST}", "registry.example.com/api:1", f"registry.example.com/api@{DIGEST}"),
        (f"registry.example.com/api@{DIGEST}", f"sha256:{HEX}", f"sha256:{HEX}"),
        (DIGEST, "registry.example.com/api:1", DIGEST),
        (DIGEST, f"sha256:{HEX}", DIGEST),
        (HEX, "registry.example.com/api:1", HEX),
        (f"docker-pullable://busybox@{DIGEST}", "busybox:1", f"busybox@{DIGEST}"),
        (f"docker://{DIGEST}", "busybox:1", DIGEST),
        ("", f"registry.example.com/api:1@{DIGEST}", ""),
        ("", DIGEST, ""),
        ("registry.example.com/api:1", "registry.example.com/api:1", ""),
        ("a@b@sha256:c", "", ""),
    ],
)
def test_what_runtimes_write(image_id: str, image: str, found: str) -> None:
    assert told(image_id, image) == found


def test_a_name_that_is_very_long_is_cut_and_its_digest_kept() -> None:
    assert told(f"{'n' * 100_000}@{DIGEST}") == f"{'n' * MAX_NAME}@{DIGEST}"


def test_pods_of_which_the_same_is_told_share_it() -> None:
    one, other = (reports(running(live(uid), api=DIGEST)) for uid in ("a", "b"))
    assert one is other


def running(pod: Pod, **images: str) -> Pod:
    """The pod with its node's report: container -> imageID. `init_x` is of an init container `x`."""

    def told(prefix: str) -> tuple[ContainerStatus, ...]:
        return tuple(
            ContainerStatus(name=name.removeprefix(prefix), image_id=image)
            for name, image in images.items()
            if name.startswith(prefix) and (prefix or "_" not in name)
        )

    status = PodStatus(
        phase="Running",
        container_statuses=told(""),
        init_container_statuses=told("init_"),
        ephemeral_container_statuses=told("debug_"),
    )
    return msgspec.structs.replace(pod, status=status)


def seen(*pods: Pod) -> PodTrack:
    track = first_sight(pods[0])
    for pod in pods[1:]:
        track = sighted(track, pod)
    return track


def granted() -> tuple[WorkloadGrant, Pod]:
    return active()[0], admitted()[0].pod


def test_another_image_names_the_node_and_what_was_expected() -> None:
    grant, pod = granted()
    bound = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name="n1"))
    found = drift(grant, seen(running(bound, api=DIGEST)))
    assert found.caused_by == "Node n1"
    for word in (grant.spec.images[0].digest, DIGEST, "api", "n1"):
        assert word in found.found


def test_what_was_reported_once_stays_whatever_is_reported_later() -> None:
    grant, pod = granted()
    right = grant.spec.images[0].digest
    assert drift(grant, seen(running(pod, api=right), running(pod, api=DIGEST), running(pod, api=right))).found


def test_an_init_container_counts() -> None:
    grant, pod = granted()
    image = msgspec.structs.replace(grant.spec.images[0], container="prepare")
    grant = msgspec.structs.replace(grant, spec=msgspec.structs.replace(grant.spec, images=(image,)))
    spec = msgspec.structs.replace(
        pod.spec, init_containers=(msgspec.structs.replace(pod.spec.containers[0], name="prepare"),)
    )
    pod = msgspec.structs.replace(pod, spec=spec)
    assert drift(grant, seen(running(pod, init_prepare=DIGEST))).found
    assert not drift(grant, seen(running(pod, init_prepare=image.digest))).found


def test_an_image_volume_counts_where_its_node_tells_of_it() -> None:
    grant, pod = granted()
    image = msgspec.structs.replace(grant.spec.images[0], container="volume/model")
    grant = msgspec.structs.replace(grant, spec=msgspec.structs.replace(grant.spec, images=(image,)))
    volumes = (Volume(name="model", image=ImageSource(reference=image.image)), Volume(name="other"))
    pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, volumes=volumes))

    def mounted(name: str, reference: str) -> Pod:
        mount = VolumeMountStatus(name=name, volume_status=VolumeStatus(image=ImageVolumeStatus(image_ref=reference)))
        one = ContainerStatus(name="api", volume_mounts=(mount, VolumeMountStatus(name="other")))
        return msgspec.structs.replace(pod, status=PodStatus(phase="Running", container_statuses=(one,)))

    assert drift(grant, seen(mounted("model", DIGEST))).found
    assert not drift(grant, seen(mounted("model", image.runtime_digests[-1]))).found
    assert not drift(grant, seen(mounted("other", DIGEST))).found


def test_a_container_that_no_spec_has_is_drift() -> None:
    grant, pod = granted()
    assert "intruder" in drift(grant, seen(running(pod, intruder=""))).found
    assert "api" in drift(grant, seen(running(pod, init_api=""))).found


def test_a_debug_container_that_was_asked_for_is_no_drift() -> None:
    grant, pod = granted()
    assert not drift(grant, seen(running(with_debugger(pod, "debugger"), debug_debugger=DIGEST))).found
    assert drift(grant, seen(running(pod, debug_debugger=DIGEST))).found


def test_a_pod_on_another_node_than_its_grant_is_drift() -> None:
    grant, pod = granted()
    bound = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name="n2"))
    assert not drift(grant, seen(bound)).found
    spec = msgspec.structs.replace(grant.spec, pod=msgspec.structs.replace(grant.spec.pod, node_name="n1"))
    assert "n1" in drift(msgspec.structs.replace(grant, spec=spec), seen(bound)).found


def test_a_refused_pod_was_never_admitted_and_cannot_drift() -> None:
    grant, pod = granted()
    refused = msgspec.structs.replace(
        grant, metadata=msgspec.structs.replace(grant.metadata, name=refused_name(pod.metadata.uid))
    )
    assert not drift(refused, seen(running(pod, api=DIGEST, intruder="")), Moved(found="moved")).found


def test_a_drift_on_record_outlives_whoever_saw_it() -> None:
    grant, pod = granted()
    found = drift(grant, seen(running(pod, api=DIGEST)))
    status = msgspec.structs.replace(grant.status, conditions=on_record(grant, found.found, found.unclear, at(5)))
    assert drift(msgspec.structs.replace(grant, status=status), first_sight(pod)).found == found.found


def test_a_record_only_becomes_more_certain() -> None:
    grant, _ = granted()
    for found, unclear, expected in (
        ("", "maybe", "Unknown"),
        ("surely", "", "True"),
        ("", "maybe", "True"),
        ("", "", "True"),
    ):
        conditions = on_record(grant, found, unclear, at(5))
        grant = msgspec.structs.replace(grant, status=msgspec.structs.replace(grant.status, conditions=conditions))
        assert next(one.status for one in conditions if one.type == CONDITION) == expected


# Labels


def policy(labels: dict[str, str], *, name: str = "tier", generation: int = 1, created: str = "") -> Policy:
    """One that selects by these labels, from before the pod unless `created` says otherwise."""
    made = cluster_policy(name, pods=labels)
    made = msgspec.structs.replace(made, ref=made.ref._replace(generation=generation))
    return msgspec.structs.replace(made, created=created or made.created)


def moved(
    labels: dict[str, str], *policies: Policy, seen: tuple[dict[str, str], ...] = (), then: Policy = POLICY
) -> Moved:
    """What is made of a pod that was admitted with app=api under `then`, has these labels, and `seen` before.

    The policies came one by one before all of that, but for those whose name begins with `late`.
    """
    now, presented = admitted(snapshot(then), live(labels=APP))
    metadata = msgspec.structs.replace(now.pod.metadata, labels=labels)
    subject = msgspec.structs.replace(now, pod=msgspec.structs.replace(now.pod, metadata=metadata))
    changes = len(policies)
    arrivals = {
        one.ref.uid: changes + one.ref.name.startswith("late") * index for index, one in enumerate(policies, start=1)
    }
    sights = [LabelsSeen(one, changes) for one in seen]
    return moved_by_labels(snapshot(*policies), subject, presented.receipt, sights, arrivals)


APP = {"app": "api"}
OTHER = {"app": "other"}
OURS = policy(APP, name="ours")
LATE = stamp(60)


def test_labels_that_move_no_policy_are_nothing() -> None:
    assert moved({**APP, "role": "leader"}, POLICY) == UNMOVED
    assert moved(OTHER, POLICY) == UNMOVED


def test_a_pod_that_was_never_moved_is_not_moved_by_a_policy() -> None:
    assert moved(APP, POLICY, policy(APP, created=LATE), policy(OTHER, name="others")) == UNMOVED


def test_a_label_that_leads_out_of_a_policy_of_the_admission_is_drift() -> None:
    found = moved(OTHER, OURS, then=OURS)
    for word in ("out of ClusterTrustPolicy ours", "app=api", "app=other"):
        assert word in found.found


def test_a_label_that_leads_into_a_policy_older_than_the_pod_is_drift() -> None:
    found = moved({**APP, "tier": "gold"}, POLICY, policy({"tier": "gold"})).found
    for word in ("into ClusterTrustPolicy tier", "no tier", "tier=gold"):
        assert word in found


@pytest.mark.parametrize("later", [policy({"tier": "gold"}, created=LATE), policy({"tier": "gold"}, generation=2)])
def test_a_policy_that_came_after_the_labels_moves_nobody_for_certain(later: Policy) -> None:
    labels = {**APP, "tier": "gold"}
    found = moved(labels, POLICY, later)
    assert not found.found
    assert found.unclear
    assert not moved(labels, POLICY, later, seen=(labels, {**labels, "harmless": "yes"}, labels)).found


def test_labels_that_were_seen_to_change_under_a_policy_are_drift_however_new_it_is() -> None:
    labels = {**APP, "tier": "gold"}
    assert moved(labels, POLICY, policy({"tier": "gold"}, created=LATE), seen=(APP, labels)).found


def test_a_policy_that_was_seen_after_the_labels_changed_moves_nobody_for_certain() -> None:
    labels = {**APP, "tier": "gold"}
    found = moved(labels, POLICY, policy({"tier": "gold"}, name="late", created=LATE), seen=(APP, labels))
    assert found.unclear
    assert not found.found


def test_labels_put_back_before_anybody_judged_them_are_drift() -> None:
    assert moved(APP, OURS, then=OURS, seen=(APP, OTHER, APP)).found


def test_an_edit_of_a_policy_is_not_held_against_a_pod_whose_labels_stand() -> None:
    edited = msgspec.structs.replace(policy({"app": "new"}, name="ours", generation=2))
    assert moved(APP, edited, then=OURS) == UNMOVED


def test_what_binding_copies_from_the_node_moves_nobody() -> None:
    zone = {"topology.kubernetes.io/zone": "a"}
    assert moved({**APP, **zone}, POLICY, policy(zone)) == UNMOVED


def test_a_drift_by_labels_is_laid_to_the_pod() -> None:
    grant, pod = granted()
    found = drift(grant, first_sight(pod), Moved(found="moved"))
    assert (found.found, found.caused_by) == ("moved", f"Pod payments/{pod.metadata.name}")
