"""Uses of tokens as they are recorded: by whom, of which instance, from where; and who can forge, fill or read that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from countersign.access.misuse import IN_FLIGHT_SECONDS
from countersign.api.names import VERIFIER_AUDIENCE
from countersign.api.verifier_calls import USES_PATH
from tests.lab.http import Answer
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

OWN = "10.0.0.7"
OTHER = "10.0.0.9"


@pytest.fixture(scope="module")
def direct(countersign: Installation) -> Governed:
    """A namespace whose relying party sees the addresses of pods, under a policy that dares."""
    return govern(countersign, audience_spec={"sourceAddresses": "Direct"}, responses={"misuse": "Revoke"})


@pytest.fixture(scope="module", autouse=True)
def over(direct: Governed) -> tuple[objects.Object, str, float]:
    """A pod that ended when this module began, the token that it left, and when that was."""
    pod = running(direct)
    token = direct.token(pod)
    direct.node.finish(pod)
    direct.await_inactive(token)
    return pod, token, time.monotonic()


def running(governed: Governed, *, name: str = "") -> objects.Object:
    """A running pod with an address, of which the controller has heard."""
    pod = governed.running(governed.pod(name=name))
    governed.node.patch_status(pod, {"podIP": OWN, "podIPs": [{"ip": OWN}]})
    return pod


def ask(governed: Governed, token: str, asker: str = "", **told: str) -> Answer:
    """A question with what a relying party tells of the use."""
    return governed.countersign.verifier_client().request(
        "POST",
        "/introspect",
        urlencode({"token": token, **told}).encode(),
        headers={"Authorization": f"Bearer {asker or governed.asker}"},
        content_type="application/x-www-form-urlencoded",
    )


def status(governed: Governed, pod: Mapping[str, Any]) -> dict[str, Any]:
    return dict(governed.countersign.grant_of(pod).get("status", {}))


def recorded(governed: Governed, pod: Mapping[str, Any], member: str) -> Any:
    """A member of the grant's `uses`, once it is there."""
    return governed.lab.wait_for(
        lambda: status(governed, pod).get("uses", {}).get(member), what=f"the grant says {member}"
    )


def misuse(governed: Governed, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(governed.lab.wait_for(lambda: status(governed, pod).get("misuse"), what="misuse is recorded"))


def test_a_token_copied_to_another_pod_ends_the_instance_it_was_taken_from(direct: Governed) -> None:
    victim, thief = running(direct), running(direct)
    token = direct.token(victim)
    assert ask(direct, token, source_address=OWN).body["active"]
    assert recorded(direct, victim, "lastUsedAt")
    assert ask(direct, token, source_address=OTHER).body["active"], "the first use from elsewhere cannot be told apart"
    grant = direct.countersign.grant_of(victim, state="Revoked")
    assert grant["status"]["reason"] == "Misused"
    (found,) = misuse(direct, victim)
    assert found["kind"] == "OtherAddress"
    assert OTHER in found["message"]
    assert OWN in found["message"]
    assert f"{direct.namespace}/relying-party" in found["message"]
    direct.await_inactive(token)
    direct.countersign.grant_of(thief, state="Active")


def test_the_report_comes_once_to_whoever_looks_at_the_pod(countersign: Installation) -> None:
    reporting = govern(countersign, audience_spec={"sourceAddresses": "Direct"})
    pod = running(reporting)
    token = reporting.token(pod)
    assert ask(reporting, token, source_address=OTHER).body["active"]
    misuse(reporting, pod)
    events = f"/apis/events.k8s.io/v1/namespaces/{reporting.namespace}/events"

    def told() -> list[str]:
        every = reporting.lab.admin.get(events, expect=200).body["items"]
        return [one["note"] for one in every if one["reason"] == "MisuseReported"]

    reporting.lab.wait_for(told, what="an Event tells of it")
    countersign.stop("controller")
    countersign.start_service("controller")
    assert ask(reporting, token, source_address=OTHER).body["active"]
    # A use of another pod, which is recorded after the old ones were collected again.
    other = running(reporting)
    assert ask(reporting, reporting.token(other), source_address=OWN).body["active"]
    recorded(reporting, other, "lastUsedAt")
    (note,) = told()
    assert note.startswith("OtherAddress: ")
    assert status(reporting, pod)["state"] == "Active"


def test_one_without_the_right_to_ask_records_nothing_and_forges_no_address(direct: Governed) -> None:
    pod = running(direct)
    token = direct.token(pod)
    strangers = [
        direct.countersign.asker(direct.namespace, "worker"),  # the workload itself
        direct.lab.service_account_token(direct.namespace, "relying-party"),  # an introspector, by another audience
        token,
        "junk",
    ]
    for stranger in strangers:
        for _ in range(20):
            answer = ask(direct, token, stranger, source_address=OTHER)
            assert (answer.status, answer.data) == (200, b'{"active": false}')
    assert ask(direct, token, source_address=OWN).body["active"]
    assert recorded(direct, pod, "lastUsedAt")
    found = status(direct, pod)
    assert (found["state"], found["uses"]["refused"], found.get("misuse")) == ("Active", 0, None)


@pytest.mark.parametrize(
    "forged", ["not an address", "999.1.1.1", f"{OTHER}, {OWN}", "127.0.0.1", "x" * 200, "::ffff:10.0.0.7"]
)
def test_what_is_no_other_address_is_none(direct: Governed, forged: str) -> None:
    pod = running(direct)
    token = direct.token(pod)
    assert ask(direct, token, source_address=forged).body["active"]
    assert recorded(direct, pod, "lastUsedAt")
    assert status(direct, pod).get("misuse") is None


def test_an_introspector_that_floods_costs_a_grant_a_few_writes(direct: Governed) -> None:
    pod = running(direct)
    token = direct.token(pod)
    client = direct.countersign.verifier_client()
    direct.node.finish(pod)
    direct.await_inactive(token)
    name = direct.countersign.grant_of(pod, state="Revoked")["metadata"]["name"]
    for number in range(600):
        form = urlencode({"token": token, "source_address": f"10.1.{number // 250}.{number % 250}"})
        client.request(
            "POST", "/introspect", form.encode(), headers={"Authorization": f"Bearer {direct.asker}"},
            content_type="application/x-www-form-urlencoded",
        )  # fmt: skip
    assert recorded(direct, pod, "lastRefusedAt")
    # What is found on another grant afterwards was collected after all of this.
    other = running(direct)
    assert ask(direct, direct.token(other), source_address=OWN).body["active"]
    recorded(direct, other, "lastUsedAt")

    def of_this_grant(event: Any) -> bool:
        ref = event.get("objectRef", {})
        return bool(event["verb"] == "patch" and ref.get("subresource") == "status" and ref.get("name") == name)

    assert 2 <= len(direct.lab.audit_events(of_this_grant)) <= 5


def test_a_pod_made_anew_with_the_same_name_and_address_inherits_no_uses(direct: Governed) -> None:
    first = running(direct, name="phoenix")
    old = direct.token(first)
    assert ask(direct, old, source_address=OWN).body["active"]
    assert recorded(direct, first, "lastUsedAt")
    direct.edit.delete(f"{direct.pods}/phoenix", query={"gracePeriodSeconds": "0"}, expect=200)
    direct.node.remove(first)
    direct.countersign.grant_of(first, state="Revoked")
    second = running(direct, name="phoenix")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert not ask(direct, old, source_address=OWN).body["active"]
    # A final grant still says that it was tried, and stays final.
    assert recorded(direct, first, "lastRefusedAt")
    found = status(direct, first)
    assert (found["state"], found["uses"]["refused"]) == ("Revoked", 1)
    assert status(direct, second).get("uses") is None
    assert ask(direct, direct.token(second), source_address=OWN).body["active"]
    assert recorded(direct, second, "lastUsedAt")
    assert status(direct, second)["uses"]["refused"] == 0


def test_only_our_controller_is_told_of_uses(direct: Governed) -> None:
    client = direct.countersign.verifier_client()
    ours = direct.countersign.namespace
    tokens = {
        "an introspector": direct.asker,
        "the workload": direct.countersign.asker(direct.namespace, "worker"),
        "the gate": direct.countersign.asker(ours, "countersign-gate"),
        "the controller, by its token for the API server": direct.lab.service_account_token(
            ours, "countersign-controller"
        ),
        "nobody": "junk",
    }
    for who, token in tokens.items():
        answer = client.request("POST", USES_PATH, b"{}", headers={"Authorization": f"Bearer {token}"})
        assert answer.status in (401, 403), who
        assert answer.data == b"", who
    controller = direct.lab.service_account_token(ours, "countersign-controller", audience=VERIFIER_AUDIENCE)
    answer = client.request("POST", USES_PATH, b"{}", headers={"Authorization": f"Bearer {controller}"})
    assert answer.status == 200


def test_whoever_may_edit_the_namespace_writes_no_uses(direct: Governed) -> None:
    pod = running(direct)
    grant = direct.countersign.grant_of(pod, state="Active")
    path = f"{objects.object_path(grant)}/status"
    forged = {
        "status": {"misuse": [{"kind": "OtherAddress", "audience": "a", "at": "2026-01-01T00:00:00Z", "message": "x"}]}
    }
    assert direct.edit.patch(path, forged).status == 403


def test_a_token_that_somebody_still_holds_when_its_work_is_long_over_is_reported(
    direct: Governed, over: tuple[objects.Object, str, float]
) -> None:
    pod, token, ended = over
    time.sleep(max(0.0, ended + IN_FLIGHT_SECONDS + 2 - time.monotonic()))  # the other tests took most of it
    assert not ask(direct, token, source_address=OWN).body["active"]
    (found,) = misuse(direct, pod)
    assert found["kind"] == "UsedAfterEnd"
    for word in (OWN, "The pod had ended by", "It was refused", f"{direct.namespace}/relying-party"):
        assert word in found["message"]
    told = status(direct, pod)
    assert (told["state"], told["reason"]) == ("Revoked", "Completed"), "its end is what it was"
