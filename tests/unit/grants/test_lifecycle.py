from __future__ import annotations

from typing import Any

import msgspec
import pytest

from countersign.api.grant import GrantToken, WorkloadGrant, WorkloadGrantStatus
from countersign.api.responses import Responses
from countersign.grants.judgement import requalify
from countersign.grants.lifecycle import (
    Observation,
    Transition,
    next_deadline,
    next_status,
    status_after,
    to_be_replaced,
)
from countersign.grants.nodes import NodeSight
from countersign.grants.reasons import REMEDIES
from countersign.grants.tracking import first_sight, sighted
from tests.unit.grants.build import (
    BORN,
    POLICY,
    active,
    admitted,
    advanced,
    at,
    changed,
    judged,
    live,
    observed,
    recorded,
    stamp,
    with_debugger,
    with_image,
)
from tests.unit.trust.build import cluster_policy, snapshot, token

OTHER = "registry.example.com/payments/api:1.3@sha256:" + "b" * 64


def goes(grant: WorkloadGrant, seen: Observation, seconds: float = 2) -> tuple[str, str] | None:
    transition = next_status(grant, seen, at(seconds))
    return (transition.state, transition.reason) if transition else None


def after(seen: Observation, **metadata: Any) -> Observation:
    """What is seen after the pod changed."""
    assert seen.track is not None
    return msgspec.structs.replace(seen, track=sighted(seen.track, changed(admitted()[0].pod, **metadata)))


def test_a_new_grant_of_a_pod_that_qualifies_becomes_active() -> None:
    judgement = judged()
    grant = recorded(judgement)
    assert goes(grant, observed(first_sight(live()), judgement.qualification)) == ("Active", "Admitted")


def test_an_active_grant_with_which_all_is_well_stays() -> None:
    assert goes(*active()) is None


@pytest.mark.parametrize(("phase", "reason"), [("Succeeded", "Completed"), ("Failed", "Failed")])
def test_the_end_of_the_work_ends_the_identity(phase: str, reason: str) -> None:
    grant, seen = active()
    assert goes(grant, after(seen, phase=phase)) == ("Revoked", reason)


def test_a_pod_that_is_gone_ends_the_identity() -> None:
    grant, _ = active()
    assert goes(grant, Observation(track=None, gone=True)) == ("Revoked", "Deleted")


def test_of_a_pod_that_is_merely_not_known_nothing_follows() -> None:
    grant, _ = active()
    assert goes(grant, Observation(track=None)) is None


def test_a_pod_seen_to_complete_before_it_went_has_completed() -> None:
    grant, seen = active()
    gone = msgspec.structs.replace(after(seen, phase="Succeeded"), gone=True)
    assert goes(grant, gone) == ("Revoked", "Completed")


# Deletion: deletionTimestamp is the request plus the grace period.


def deleting(seen: Observation, grace: int, requested: float = 10) -> Observation:
    return after(seen, generation=2, deletion_timestamp=stamp(requested + grace), deletion_grace_period_seconds=grace)


def test_with_a_grace_period_the_identity_lasts_as_long_as_the_pod_may() -> None:
    grant, seen = active()
    assert goes(grant, deleting(seen, 30), 39) is None
    assert next_deadline(grant, deleting(seen, 30)) == at(40)
    assert goes(grant, deleting(seen, 30), 40) == ("Revoked", "Deleted")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_deleted_pod_whose_containers_end_was_deleted_however_they_exit(phase: str) -> None:
    # A kubelet gives such a pod a terminal phase before the object goes (pkg/kubelet/kubelet_pods.go, getPhase); a
    # program that is told to end commonly exits with 143, which is no failure of its work.
    grant, seen = active()
    ended = after(seen, phase=phase, deletion_timestamp=stamp(40), deletion_grace_period_seconds=30)
    assert goes(grant, ended, 12) == ("Revoked", "Deleted")


def test_drain_seconds_bound_a_long_grace_period() -> None:
    grant, seen = active()
    assert next_deadline(grant, deleting(seen, 3600)) == at(70)  # drainSeconds: 60 after the request
    assert goes(grant, deleting(seen, 3600), 70) == ("Revoked", "Deleted")


def test_immediate_ends_the_identity_at_the_request() -> None:
    given = snapshot(cluster_policy(tokens=(token(),), on_termination="Immediate"))
    grant, seen = active(given)
    assert goes(grant, deleting(seen, 3600), 10) == ("Revoked", "Deleted")


def test_an_ungoverned_pod_drains_by_the_default() -> None:
    grant, seen = active()
    free = msgspec.structs.replace(deleting(seen, 3600), qualification=None)
    assert next_deadline(grant, free) == at(70)


# What spoils an instance


def test_another_image_in_place_ends_the_identity() -> None:
    grant, seen = active()
    assert seen.track is not None
    swapped = sighted(seen.track, changed(with_image(admitted()[0].pod, OTHER), generation=2))
    assert goes(grant, msgspec.structs.replace(seen, track=swapped)) == ("Revoked", "ImageChanged")


def test_an_image_swapped_and_put_back_while_nobody_looked_ends_the_identity() -> None:
    grant, seen = active()
    # A restarted controller: its first sight of the pod is of the third generation, the grant saw the first.
    back = first_sight(changed(admitted()[0].pod, generation=3))
    assert goes(grant, msgspec.structs.replace(seen, track=back)) == ("Revoked", "ImageChanged")


def test_writes_seen_by_an_earlier_controller_are_explained() -> None:
    grant, seen = active()
    for generation in (2, 3):
        seen = after(seen, generation=generation)
        grant = advanced(grant, seen, at(2))
    assert grant.status.pod_generation == 3
    restarted = first_sight(changed(admitted()[0].pod, generation=4))
    assert goes(grant, msgspec.structs.replace(seen, track=restarted)) is None


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Revoke", ("Revoked", "EphemeralContainerAdded")),
        ("Deny", ("Revoked", "EphemeralContainerAdded")),
        ("Suspend", ("Suspended", "EphemeralContainerAdded")),
        ("Report", None),
    ],
)
def test_an_ephemeral_container_brings_the_response_of_the_policy(response: Any, expected: object) -> None:
    given = snapshot(cluster_policy(tokens=(token(),), responses=Responses(ephemeral_container=response)))
    grant, seen = active(given)
    found, receipt = admitted(given)
    debugged = changed(with_debugger(found.pod, "debug"), generation=2)
    assert seen.track is not None
    seen = msgspec.structs.replace(
        seen,
        track=sighted(seen.track, debugged),
        qualification=requalify(given, msgspec.structs.replace(found, pod=debugged), receipt.receipt, BORN),
    )
    assert goes(grant, seen) == expected


def test_a_deleted_account_ends_the_identity() -> None:
    grant, seen = active()
    gone = msgspec.structs.replace(seen, service_account_uid=None, service_account_gone=True)
    assert goes(grant, gone) == ("Revoked", "ServiceAccountChanged")


def test_another_account_of_the_same_name_ends_the_identity() -> None:
    grant, seen = active()
    assert goes(grant, msgspec.structs.replace(seen, service_account_uid="another")) == (
        "Revoked",
        "ServiceAccountChanged",
    )


def test_of_an_account_that_is_merely_not_known_nothing_follows() -> None:
    grant, seen = active()
    assert goes(grant, msgspec.structs.replace(seen, service_account_uid=None)) is None


def test_a_revoked_receipt_key_suspends_until_it_is_restored() -> None:
    grant, seen = active()
    revoked = msgspec.structs.replace(seen, receipt_key_revoked="key-1")
    assert goes(grant, revoked) == ("Suspended", "ReceiptKeyRevoked")
    suspended = advanced(grant, revoked, at(2))
    assert goes(suspended, revoked) is None
    assert not to_be_replaced(suspended, revoked, at(3))
    assert goes(suspended, seen) == ("Active", "QualifiesAgain")


def test_a_hold_on_a_change_of_policy_does_not_hold_back_a_revoked_receipt_key() -> None:
    grant, seen = active()
    revoked = msgspec.structs.replace(seen, receipt_key_revoked="key-1", held=True)
    assert goes(grant, revoked) == ("Suspended", "ReceiptKeyRevoked")


def test_what_ends_an_instance_goes_before_a_revoked_receipt_key() -> None:
    grant, seen = active()
    revoked = msgspec.structs.replace(after(seen, phase="Succeeded"), receipt_key_revoked="key-1")
    assert goes(grant, revoked) == ("Revoked", "Completed")


def test_an_order_ends_the_identity_and_is_named() -> None:
    grant, seen = active()
    ordered = msgspec.structs.replace(seen, revocation="Revocation payments/leak", revocation_reason="leaked")
    transition = next_status(grant, ordered, at(2))
    assert transition is not None
    assert (transition.state, transition.reason, transition.caused_by) == (
        "Revoked",
        "RevokedByOrder",
        "Revocation payments/leak",
    )
    assert "leaked" in transition.message


def test_a_lifetime_ends_the_identity() -> None:
    grant, seen = active(snapshot(cluster_policy(tokens=(token(),), max_lifetime_seconds=600)))
    assert next_deadline(grant, seen) == at(600)
    assert goes(grant, seen, 599) is None
    assert goes(grant, seen, 600) == ("Revoked", "LifetimeOver")


# Suspension and return


def unqualified(seen: Observation) -> Observation:
    found, receipt = admitted()
    strict = snapshot(cluster_policy(images=(), unmatched_images="Deny", tokens=()))
    return msgspec.structs.replace(seen, qualification=requalify(strict, found, receipt.receipt, BORN))


def test_a_policy_that_turns_against_a_pod_suspends_and_may_bring_it_back() -> None:
    grant, seen = active()
    assert goes(grant, unqualified(seen)) == ("Suspended", "NoLongerQualifies")
    suspended = advanced(grant, unqualified(seen), at(2))
    assert "ImageNotCovered" in suspended.status.message
    assert goes(suspended, seen) == ("Active", "QualifiesAgain")


def test_a_deleted_policy_suspends() -> None:
    grant, seen = active()
    assert goes(grant, msgspec.structs.replace(seen, qualification=None)) == ("Suspended", "NoLongerQualifies")


def test_a_withdrawn_audience_suspends_even_if_the_pod_qualifies_otherwise() -> None:
    grant, seen = active()
    found, receipt = admitted()
    without = snapshot(cluster_policy())
    seen = msgspec.structs.replace(seen, qualification=requalify(without, found, receipt.receipt, BORN))
    assert seen.qualification is not None
    assert seen.qualification.qualifies
    assert goes(grant, seen) == ("Suspended", "NoLongerQualifies")


def test_a_held_change_suspends_nothing_that_is_active() -> None:
    grant, seen = active()
    assert goes(grant, msgspec.structs.replace(unqualified(seen), held=True)) is None


def test_a_held_change_still_counts_for_a_new_pod() -> None:
    grant = recorded(judged())
    held = msgspec.structs.replace(unqualified(active()[1]), held=True)
    assert goes(grant, held) == ("Suspended", "NotQualified")


def with_tokens(state: str, *tokens: GrantToken) -> WorkloadGrant:
    spec = msgspec.structs.replace(judged().spec, tokens=tokens)
    status = WorkloadGrantStatus(state=state, reason="NoLongerQualifies")  # type: ignore[arg-type]
    return msgspec.structs.replace(recorded(judged()), spec=spec, status=status)


OLD_TOKEN = GrantToken(audience="ledger.example.com", policy_uid="uid-of-the-deleted", max_expiration_seconds=600)


@pytest.mark.parametrize("tokens", [(), (OLD_TOKEN,)])
def test_a_suspended_grant_with_other_tokens_than_its_pod_may_hold_makes_way(tokens: tuple[GrantToken, ...]) -> None:
    _, seen = active()
    assert to_be_replaced(with_tokens("Suspended", *tokens), seen, at(2))
    assert not to_be_replaced(with_tokens("Active", *tokens), seen, at(2))
    assert not to_be_replaced(with_tokens("Revoked", *tokens), seen, at(2))
    assert not to_be_replaced(with_tokens("Suspended", *judged().spec.tokens), seen, at(2))


def test_a_suspended_grant_does_not_make_way_while_something_speaks_against_its_pod() -> None:
    _, seen = active()
    grant = with_tokens("Suspended")
    assert not to_be_replaced(grant, unqualified(seen), at(2))
    assert not to_be_replaced(grant, msgspec.structs.replace(seen, service_account_uid="another"), at(2))
    assert not to_be_replaced(grant, after(seen, phase="Succeeded"), at(2))
    assert not to_be_replaced(grant, Observation(track=None), at(2))


# The status


def test_what_ends_an_instance_goes_before_what_suspends_it() -> None:
    grant, seen = active()
    assert goes(grant, msgspec.structs.replace(unqualified(seen), service_account_uid="another")) == (
        "Revoked",
        "ServiceAccountChanged",
    )


def test_the_time_of_change_moves_with_the_state_only() -> None:
    grant, seen = active()
    suspended = advanced(grant, unqualified(seen), at(5))
    assert suspended.status.changed_at == stamp(5)
    other = Transition(state="Suspended", reason="EphemeralContainerAdded", message="debugged")
    assert status_after(suspended.status, other, None, at(9)).changed_at == stamp(5)


def test_the_ready_condition_follows_the_state() -> None:
    grant, seen = active()
    (ready,) = grant.status.conditions
    assert (ready.type, ready.status, ready.reason) == ("Ready", "True", "Admitted")
    (ready,) = advanced(grant, unqualified(seen), at(5)).status.conditions
    assert (ready.status, ready.reason) == ("False", "NoLongerQualifies")


def test_a_message_fits_into_the_status() -> None:
    long = Transition(state="Suspended", reason="NoLongerQualifies", message="x" * 5000)
    assert len(status_after(WorkloadGrantStatus(), long, None, BORN).message) <= 1024


def test_every_reason_has_its_remedy() -> None:
    assert all(text.endswith(".") for text in REMEDIES.values())


DRIFTED = {"drift": "app runs another image", "drift_caused_by": "Node n1"}


@pytest.mark.parametrize("response", ["Revoke", "Suspend", "Report"])
def test_drift_is_answered_as_the_policy_says(response: str) -> None:
    given = snapshot(cluster_policy(tokens=(token(),), responses=Responses(drift=response)))  # type: ignore[arg-type]
    grant, seen = active(given)
    found = next_status(grant, msgspec.structs.replace(seen, **DRIFTED), at(5))
    if response == "Report":
        assert found is None
        return
    assert found is not None
    assert found.state == ("Revoked" if response == "Revoke" else "Suspended")
    assert (found.reason, found.message, found.caused_by) == ("Drifted", *DRIFTED.values())


def test_what_is_unclear_changes_no_state() -> None:
    grant, seen = active()
    assert next_status(grant, msgspec.structs.replace(seen, drift_unclear="maybe"), at(5)) is None


@pytest.mark.parametrize(
    ("members", "reason", "cause"),
    [
        ({"gone": True}, "Deleted", "Pod payments/api-1"),
        ({"service_account_gone": True}, "ServiceAccountChanged", "ServiceAccount payments/api"),
        ({"service_account_uid": "another"}, "ServiceAccountChanged", "ServiceAccount payments/api"),
        ({"receipt_key_revoked": "k1"}, "ReceiptKeyRevoked", "receipt key k1"),
        ({"epoch": "two", "reconfirmed": False}, "EpochChanged", "epoch two"),
        ({"qualification": None}, "NoLongerQualifies", "ClusterTrustPolicy payments"),
        (DRIFTED, "Drifted", "Node n1"),
        ({"node": NodeSight(name="n1", replaced="its UID is another")}, "NodeReplaced", "Node n1"),
        ({"node": NodeSight(name="n1", unready_since=at(-900))}, "NodeLost", "Node n1"),
    ],
)
def test_every_change_says_who_or_what_caused_it(members: dict[str, Any], reason: str, cause: str) -> None:
    grant, seen = active()
    found = next_status(grant, msgspec.structs.replace(seen, **members), at(5))
    assert found is not None
    assert (found.reason, found.caused_by) == (reason, cause)


def test_an_end_by_its_work_is_told_by_its_node() -> None:
    grant, seen = active()
    bound = live(nodeName="n1")
    track = sighted(first_sight(bound), changed(bound, phase="Succeeded"))
    found = next_status(grant, msgspec.structs.replace(seen, track=track), at(5))
    assert found is not None
    assert (found.reason, found.caused_by) == ("Completed", "Node n1")


def test_a_failing_policy_is_named_as_the_cause() -> None:
    grant, seen = active()
    bad = msgspec.structs.replace(POLICY, spec=msgspec.structs.replace(POLICY.spec, images=()))
    subject, presented = admitted()
    judged_now = requalify(snapshot(bad), subject, presented.receipt, at(5))
    found = next_status(grant, msgspec.structs.replace(seen, qualification=judged_now), at(5))
    assert found is not None
    assert (found.reason, found.caused_by) == ("NoLongerQualifies", "ClusterTrustPolicy payments")
