"""Drift: no runtime's way to name an admitted image is one, and every other image by its id is."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from countersign.api.grant import WorkloadGrant
from countersign.api.pod import ContainerStatus, Pod, PodStatus
from countersign.grants.drift import drift
from countersign.grants.reports import MAX_REPORTS, digest_of, told
from countersign.grants.tracking import PodTrack, first_sight, sighted
from tests.unit.grants.build import active, admitted

GRANT, _ = active()
POD = admitted()[0].pod
[IMAGE] = GRANT.spec.images
NAME = POD.spec.containers[0].name
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)

digests = HEX.map("sha256:{}".format)
allowed = st.sampled_from(IMAGE.runtime_digests)
foreign = digests.filter(lambda one: one not in IMAGE.runtime_digests)
names = st.sampled_from(
    ["registry.example.com/payments/api", "mirror.example/api", "docker.io/library/aaa", "x:5000/y"]
)
tags = st.one_of(st.just(""), names.map("{}:1.2".format), st.text(max_size=40))


def by_name(digest: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """As containerd, CRI-O and Docker name an image that was pulled."""
    return st.builds("{}{}@{}".format, st.sampled_from(["", "docker-pullable://"]), names, digest)


def by_id(digest: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """As containerd and Docker tell the id."""
    return st.builds("{}{}".format, st.sampled_from(["", "docker://"]), digest)


def bare(digest: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """As CRI-O tells its storage's id."""
    return digest.map(lambda one: one.removeprefix("sha256:"))


def status(
    image_id: st.SearchStrategy[str], image: st.SearchStrategy[str] = tags
) -> st.SearchStrategy[ContainerStatus]:
    return st.builds(lambda one, other: ContainerStatus(name=NAME, image_id=one, image=other), image_id, image)


honest = st.one_of(
    status(st.one_of(by_name(allowed), by_id(allowed), bare(allowed), st.just(""))),
    # Another index over the same content is on the node, too, and its name comes first.
    status(by_name(foreign), by_id(allowed)),
)
unproven = status(st.one_of(by_name(foreign), bare(foreign)))
wrong = st.one_of(
    status(by_id(foreign)), status(by_name(foreign), by_id(foreign)), status(bare(foreign), by_id(foreign))
)


def reporting(one: ContainerStatus) -> Pod:
    return msgspec.structs.replace(POD, status=PodStatus(phase="Running", container_statuses=(one,)))


def tracked(statuses: list[ContainerStatus]) -> PodTrack:
    track = first_sight(POD)
    for one in statuses:
        track = sighted(track, reporting(one))
    return track


@given(st.lists(honest, max_size=6))
def test_whatever_way_an_admitted_image_is_named_it_is_no_drift(statuses: list[ContainerStatus]) -> None:
    found = drift(GRANT, tracked(statuses))
    assert not found.found
    assert not found.unclear


@given(st.lists(st.one_of(honest, unproven), max_size=6), wrong, st.lists(st.one_of(honest, unproven), max_size=6))
def test_another_image_by_its_id_is_drift_whatever_is_reported_before_and_after(
    before: list[ContainerStatus], one: ContainerStatus, after: list[ContainerStatus]
) -> None:
    assert drift(GRANT, tracked([*before, one, *after])).found


@given(st.lists(unproven, min_size=1, max_size=6))
def test_a_name_that_nobody_knows_is_told_and_proves_nothing(statuses: list[ContainerStatus]) -> None:
    found = drift(GRANT, tracked(statuses))
    assert not found.found
    assert found.unclear


@given(st.lists(st.one_of(honest, unproven, wrong), max_size=24))
def test_what_is_kept_of_a_pod_is_bounded(statuses: list[ContainerStatus]) -> None:
    assert len(tracked(statuses).reports) <= 2 * MAX_REPORTS


@given(st.lists(wrong, min_size=1, max_size=4))
def test_nothing_follows_where_the_evidence_knows_no_configs(statuses: list[ContainerStatus]) -> None:
    image = msgspec.structs.replace(IMAGE, runtime_digests=(IMAGE.digest,))
    spec = msgspec.structs.replace(GRANT.spec, images=(image,))
    lacking: WorkloadGrant = msgspec.structs.replace(GRANT, spec=spec)
    assert drift(lacking, tracked(statuses)) == ("", "", "")


@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_a_node_writes_is_read(image_id: str, image: str) -> None:
    found = told(image_id, image)
    assert not found or len(digest_of(found)) in (71, 135)
