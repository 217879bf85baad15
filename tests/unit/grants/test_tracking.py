from __future__ import annotations

import msgspec
import pytest

from countersign.api.meta import ObjectMeta
from countersign.api.pod import Pod, PodIP
from countersign.grants.tracking import MAX_ADDRESSES, first_sight, sighted, spec_writes
from tests.unit.grants.build import changed, live, stamp, with_debugger, with_image

OTHER = "registry.example.com/payments/api:1.3@sha256:" + "b" * 64


def test_another_image_is_seen() -> None:
    track = sighted(first_sight(live()), changed(with_image(live(), OTHER), generation=2))
    assert OTHER in track.image_change


def test_an_image_put_back_stays_changed() -> None:
    pod = live()
    track = sighted(first_sight(pod), changed(with_image(pod, OTHER), generation=2))
    assert sighted(track, changed(pod, generation=3)).image_change


def test_two_unseen_writes_may_be_a_swap() -> None:
    assert sighted(first_sight(live()), changed(live(), generation=3)).image_change


def test_writes_that_were_each_seen_are_no_swap() -> None:
    track = first_sight(live())
    for generation in (2, 3, 4, 5):
        track = sighted(track, changed(live(), generation=generation))
    assert not track.image_change
    assert track.writes == 5


def test_the_request_to_delete_is_no_write_of_the_spec() -> None:
    going = changed(live(), generation=2, deletion_timestamp=stamp(40), deletion_grace_period_seconds=30)
    assert spec_writes(going) == 1
    assert not sighted(first_sight(live()), changed(going, generation=3)).image_change
    assert sighted(first_sight(live()), changed(going, generation=4)).image_change


def test_one_unseen_write_brought_the_ephemeral_container() -> None:
    track = first_sight(live())
    assert not sighted(track, changed(with_debugger(live(), "debug"), generation=3)).image_change
    assert sighted(track, changed(with_debugger(live(), "debug"), generation=4)).image_change


def test_without_generations_only_seen_images_count() -> None:
    # Kubernetes before 1.33 leaves metadata.generation of pods at 0.
    bare = Pod(metadata=ObjectMeta(uid="pod-uid"), spec=live().spec)
    assert not sighted(first_sight(bare), bare).image_change
    assert sighted(first_sight(bare), with_image(bare, OTHER)).image_change


@pytest.mark.parametrize(("phase", "ended"), [("Succeeded", "Completed"), ("Failed", "Failed")])
def test_a_terminal_phase_stays_whatever_a_node_writes_later(phase: str, ended: str) -> None:
    track = sighted(first_sight(live()), changed(live(), phase=phase))
    assert sighted(track, changed(live(), phase="Running")).ended == ended


def test_ephemeral_containers_are_remembered() -> None:
    track = sighted(first_sight(live()), changed(with_debugger(live(), "debug"), generation=2))
    assert sighted(track, changed(live(), generation=3)).ephemeral == ("debug",)


def test_a_shortened_grace_period_counts() -> None:
    going = changed(live(), generation=2, deletion_timestamp=stamp(40), deletion_grace_period_seconds=30)
    sooner = changed(live(), generation=2, deletion_timestamp=stamp(11), deletion_grace_period_seconds=1)
    track = sighted(sighted(first_sight(live()), going), sooner)
    assert (track.deletion_timestamp, track.deletion_grace_seconds) == (stamp(11), 1)


def test_every_address_that_a_pod_had_is_kept_within_bounds() -> None:
    def at_address(*addresses: str) -> Pod:
        made = live()
        ips = tuple(PodIP(ip=one) for one in addresses)
        return msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, pod_ips=ips))

    track = first_sight(live())
    assert track.addresses == ()
    for sight in (at_address("10.0.0.7", "fd00::7"), live(), at_address("10.0.0.8"), at_address("10.0.0.7")):
        track = sighted(track, sight)
    assert track.addresses == ("10.0.0.7", "fd00::7", "10.0.0.8")
    for number in range(100):
        track = sighted(track, at_address(f"10.1.0.{number}"))
    assert len(track.addresses) == MAX_ADDRESSES
    assert track.addresses[-1] == "10.1.0.99"
