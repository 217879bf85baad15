"""A TrustException lets in what it names for as long as it says: nobody stretches it, and it is over everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from countersign.api.clock import format_time, parse
from countersign.api.names import SYSTEM_NAMESPACE
from countersign.trust.evidence.fingerprints import pem_fingerprint
from tests.lab.images import ImageSpec
from tests.stack import objects
from tests.stack.commandline import countersign as command
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

EXCEPTIONS = "/apis/countersign.dev/v1alpha1/trustexceptions"


@pytest.fixture(autouse=True)
def _none_left(governed: Governed) -> Iterator[None]:
    """Every exception ends with its test, and everything runs again."""
    yield
    for name in ("controller", "gate", "verifier"):
        if name not in governed.countersign.services:
            governed.countersign.start_service(name)
    for one in governed.lab.admin.get(EXCEPTIONS, expect=200).body["items"]:
        governed.lab.admin.delete(f"{EXCEPTIONS}/{one['metadata']['name']}")


def soon(seconds: float) -> str:
    return format_time(datetime.now(UTC) + timedelta(seconds=seconds))


def waiving(governed: Governed, name: str = "", seconds: float = 3600, **spec: Any) -> objects.Object:
    """An exception for unsigned images of the namespace, under its policy."""
    match = spec.pop("match", {"namespaces": [governed.namespace]})
    waives = spec.pop("waives", ["ImageUnsigned"])
    return objects.trust_exception(
        name or f"legacy-{governed.namespace}", [governed.namespace], waives, match, soon(seconds), **spec
    )


def create(governed: Governed, **members: Any) -> str:
    """Create one as the admin, and wait until the gate has seen it."""
    made = governed.lab.admin.post(EXCEPTIONS, waiving(governed, **members), expect=201).body
    name = str(made["metadata"]["name"])
    governed.lab.wait_for(lambda: conditions(governed, name).get("Active") == "True", what="the controller reports it")
    return name


def conditions(governed: Governed, name: str) -> dict[str, str]:
    status = governed.lab.admin.get(f"{EXCEPTIONS}/{name}", expect=200).body.get("status", {})
    return {one["type"]: one["status"] for one in status.get("conditions", ())}


def told(governed: Governed, name: str) -> set[str]:
    events = governed.lab.admin.get("/apis/events.k8s.io/v1/namespaces/default/events").body["items"]
    return {one["reason"] for one in events if one["regarding"].get("name") == name}


def unsigned(governed: Governed) -> objects.Object:
    return governed.pod(image=governed.unsigned.by_tag)


def refused(governed: Governed) -> bool:
    answer = governed.create(unsigned(governed))
    assert answer.status in (201, 403), answer
    return answer.status == 403 and "ImageUnsigned" in answer.message


def seen(governed: Governed) -> None:
    """Wait until the gate has seen every exception that exists: the last one made is seen last."""
    name = f"last-{governed.namespace}"
    governed.lab.admin.post(EXCEPTIONS, waiving(governed, name=name, waives=["EnvNotAllowed"]), expect=201)
    preload = objects.container(governed.image.by_tag, env=[{"name": "LD_PRELOAD", "value": "/x"}])
    governed.lab.wait_for(lambda: governed.create(governed.pod(preload)).status == 201, what="the gate has seen it")


def let_in(governed: Governed) -> objects.Object:
    """An unsigned pod, admitted and on its node."""
    answer = governed.lab.wait_for(
        lambda: found if (found := governed.create(unsigned(governed))).status == 201 else None, what="it is let in"
    )
    assert any("Waived until" in one for one in answer.warnings), answer.warnings
    return dict(governed.node.run(answer.body))


# Who may write one


def test_whoever_may_start_pods_can_neither_make_nor_stretch_nor_end_one(governed: Governed) -> None:
    assert governed.edit.post(EXCEPTIONS, waiving(governed)).status == 403
    name = create(governed)
    later = {"spec": {"expiresAt": soon(7200)}}
    assert governed.edit.patch(f"{EXCEPTIONS}/{name}", later).status == 403
    assert governed.edit.patch(f"{EXCEPTIONS}/{name}/status", {"status": {"pods": 0}}).status == 403
    assert governed.edit.delete(f"{EXCEPTIONS}/{name}").status == 403


def test_whoever_may_make_one_stands_in_it_and_can_only_shorten_it(governed: Governed) -> None:
    lab, body = governed.lab, waiving(governed)
    bound = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"exempts-{governed.namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "countersign-exceptions"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "olga"}],
    }
    lab.admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", bound, expect=201)
    olga = lab.api("olga")
    forged = {**body, "spec": {**body["spec"], "requestedBy": "somebody-else"}}
    assert "must be who asks" in olga.post(EXCEPTIONS, forged).message
    stored = olga.post(EXCEPTIONS, body, expect=201).body
    assert stored["spec"]["requestedBy"] == "olga"
    path = f"{EXCEPTIONS}/{stored['metadata']['name']}"
    for change, says in (
        ({"expiresAt": soon(7200)}, "may only be moved earlier"),
        ({"tokens": "Issue"}, "all but expiresAt stays as it is"),
        ({"match": {"namespaces": [governed.namespace, "default"]}}, "all but expiresAt stays as it is"),
        ({"waives": [{"check": "CommandNotAllowed"}]}, "all but expiresAt stays as it is"),
    ):
        answer = olga.patch(path, {"spec": change})
        assert (answer.status, says in answer.message) == (422, True), answer
        assert lab.admin.patch(path, {"spec": change}).status == 422, "nor can the cluster's admin"
    assert olga.patch(f"{path}/status", {"status": {"pods": 1}}).status == 403
    assert olga.patch(path, {"spec": {"expiresAt": soon(60)}}).status == 200
    assert olga.delete(path).status == 200


# That it ends


def test_it_lets_in_without_identity_and_is_over_by_itself(governed: Governed) -> None:
    lab = governed.lab
    assert refused(governed)
    name = create(governed, seconds=40)  # the last tenth is when it warns
    pod = let_in(governed)
    grant = governed.countersign.grant_of(pod, state="Suspended")
    assert grant["status"]["reason"] == "NotQualified"
    assert [one["name"] for one in grant["status"]["exceptions"]] == [name]
    assert governed.node.request_token(pod, governed.audience).status == 403
    # Each try makes a pod as long as it is in force: hundreds of them would keep the controller from its warning.
    end = parse(lab.admin.get(f"{EXCEPTIONS}/{name}").body["spec"]["expiresAt"])
    lab.wait_for(lambda: datetime.now(UTC) > end - timedelta(seconds=0.5), what="it is about to end", timeout=60)
    lab.wait_for(lambda: refused(governed), what="the gate refuses again")
    lab.wait_for(lambda: conditions(governed, name).get("Expired") == "True", what="its status says so")
    wanted = {"TrustExceptionInForce", "TrustExceptionExpiring", "TrustExceptionEnded"}
    lab.wait_for(lambda: wanted <= told(governed, name), what="Events about it")


def test_an_identity_that_rests_on_it_is_over_to_the_second_with_no_controller_running(governed: Governed) -> None:
    lab, countersign = governed.lab, governed.countersign
    name = create(governed, seconds=25, tokens="Issue")
    end = parse(lab.admin.get(f"{EXCEPTIONS}/{name}").body["spec"]["expiresAt"])
    pod = let_in(governed)
    countersign.grant_of(pod, state="Active")
    token = governed.token(pod)
    answer = governed.introspect(token)
    assert answer["active"]
    assert [one["name"] for one in answer["countersign.dev"]["exceptions"]] == [name]
    # A controller that stands still renews its Lease no more, and the verifier says so only after 15 s.
    lab.wait_for(lambda: datetime.now(UTC) > end - timedelta(seconds=5), what="it is about to end")
    countersign.kill("controller")
    seen: list[tuple[datetime, bool]] = []

    def ended() -> bool:
        asked = datetime.now(UTC)
        seen.append((asked, governed.active(token)))
        return not seen[-1][1]

    lab.wait_for(ended, what="the token is inactive", timeout=14)
    assert not [asked for asked, active in seen if active and asked >= end], "active after its end"
    assert seen[-1][0] >= end - timedelta(seconds=1), "inactive before its end"
    minted = governed.node.request_token(pod, governed.audience)
    assert (minted.status, "ExceptionEnded" in minted.message) == (403, True), minted
    countersign.start_service("controller")
    grant = countersign.grant_of(pod, state="Suspended")
    assert grant["status"]["reason"] == "ExceptionEnded"


def test_taking_it_back_ends_what_rested_on_it_and_another_of_its_name_is_another(governed: Governed) -> None:
    lab, countersign = governed.lab, governed.countersign
    name = create(governed, tokens="Issue")
    pod = let_in(governed)
    countersign.grant_of(pod, state="Active")
    token = governed.token(pod)
    assert governed.active(token)
    lab.admin.delete(f"{EXCEPTIONS}/{name}")
    governed.await_inactive(token)
    assert countersign.grant_of(pod, state="Suspended")["status"]["reason"] == "ExceptionEnded"
    lab.wait_for(lambda: refused(governed), what="the gate refuses again")
    # The same name for others: nothing comes back.
    create(governed, name=name, match={"namespaces": ["default"]}, tokens="Issue")
    seen(governed)
    assert refused(governed)
    assert countersign.grant_of(pod)["status"]["state"] == "Suspended"
    # By shortening, as the command line does it.
    lab.admin.delete(f"{EXCEPTIONS}/{name}")
    create(governed, name=name, tokens="Issue")
    countersign.grant_of(pod, state="Active")
    lab.wait_for(lambda: governed.active(token), what="it is active again")
    result = command("exception", "end", name, kubeconfig=lab.kubeconfig)
    assert result.exit_code == 0, result.output
    governed.await_inactive(token)
    countersign.grant_of(pod, state="Suspended")


# What it does not reach


def test_no_label_that_a_namespaces_people_can_write_brings_them_under_it(countersign: Installation) -> None:
    governed = govern(countersign)
    lab = governed.lab
    body = waiving(governed, match={"namespaceSelector": {"matchLabels": {"governed-by": governed.namespace}}})
    assert "labels under countersign.dev/ only" in lab.admin.post(EXCEPTIONS, body).message
    create(governed, match={"namespaceSelector": {"matchLabels": {"countersign.dev/legacy": "yes"}}})
    seen(governed)
    assert refused(governed)
    # Labels of the pod are not the namespace's.
    labels = {"countersign.dev/legacy": "yes", "kubernetes.io/metadata.name": "legacy"}
    pod = governed.pod(image=governed.unsigned.by_tag, metadata={"labels": labels})
    assert governed.create(pod).status == 403
    lab.grant_role(governed.namespace, governed.attacker, "admin")
    path = f"/api/v1/namespaces/{governed.namespace}"
    assert governed.edit.patch(path, {"metadata": {"labels": labels}}).status == 403
    assert refused(governed)


def test_it_waives_nothing_of_another_namespace_policy_image_or_check(
    governed: Governed, countersign: Installation
) -> None:
    other = govern(countersign)
    create(governed, match={"namespaces": [governed.namespace, other.namespace]})
    let_in(governed)
    assert refused(other), "another policy, whatever namespaces it names"
    answer = governed.create(governed.pod(objects.container(governed.image.by_tag, command=["sh"])))
    assert "CommandNotAllowed" in answer.message
    governed.lab.admin.delete(f"{EXCEPTIONS}/legacy-{governed.namespace}")
    create(governed, name="one-image", match={"digests": [governed.unsigned.digest]})
    let_in(governed)
    second = governed.lab.registry("referrers").repository(f"{governed.namespace}/other")
    pushed = second.push("v1", ImageSpec.distinct(f"{governed.namespace}-other", entrypoint=["/app"]))
    assert "ImageUnsigned" in governed.create(governed.pod(image=pushed.by_tag)).message


@pytest.mark.parametrize("what", ["digest", "keyFingerprint"])
def test_a_revocation_beats_it(countersign: Installation, what: str) -> None:
    governed = govern(countersign)
    lab = governed.lab
    create(governed, tokens="Issue", waives=["ImageUnsigned", "ImageNotCovered"])
    pod = let_in(governed)
    countersign.grant_of(pod, state="Active")
    token = governed.token(pod)
    if what == "digest":
        target, image, says = {"digest": governed.unsigned.digest}, governed.unsigned, "ImageRevoked"
    else:
        target, image, says = (
            {"keyFingerprint": pem_fingerprint(governed.key.public_pem) or ""},
            governed.image,
            "ImageUnsigned",
        )
    order = lab.admin.post(
        objects.collection_path(objects.revocation(SYSTEM_NAMESPACE, target)),
        objects.revocation(SYSTEM_NAMESPACE, target),
        expect=201,
    ).body
    try:
        lab.wait_for(
            lambda: says in governed.create(governed.pod(image=image.by_tag)).message, what="the gate refuses the image"
        )
        if what == "digest":
            governed.await_inactive(token)
            assert countersign.grant_of(pod, state="Revoked")["status"]["reason"] == "RevokedByOrder"
    finally:
        lab.admin.delete(objects.object_path(order))


# What people see


def test_the_command_line_judges_by_it_and_by_it_no_longer(governed: Governed, tmp_path: Any) -> None:
    lab = governed.lab
    result = command(
        "exception", "create", "by-hand", f"--policy={governed.namespace}", "--waive=ImageUnsigned", "--for=1h",
        "--owner=legacy@example.com", "--reason=until May", f"--namespace={governed.namespace}",
        kubeconfig=lab.kubeconfig,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    pod = let_in(governed)
    listed = json.loads(command("exception", "list", "-o", "json", kubeconfig=lab.kubeconfig).stdout)
    (line,) = [one for one in listed if one["name"] == "by-hand"]
    assert (line["active"], line["waives"], line["by"]) == ("yes", ["ImageUnsigned"], "lab-admin")
    by = command("grants", "--exception=by-hand", "-o", "json", kubeconfig=lab.kubeconfig)
    lab.wait_for(
        lambda: (
            pod["metadata"]["name"]
            in command("grants", "--exception=by-hand", "-o", "json", kubeconfig=lab.kubeconfig).stdout
        ),
        what=f"the grant names it: {by.stdout}",
    )
    policies = tmp_path / "policies.yaml"
    now = lab.admin.get(f"{EXCEPTIONS}/by-hand", expect=200).body
    policies.write_text(yaml.safe_dump_all([governed.policy, objects_only(now)]))
    pods = tmp_path / "pod.yaml"
    pods.write_text(yaml.safe_dump(unsigned(governed)))
    tried = [
        "policy", "test", str(policies), f"--pod={pods}", f"--namespace={governed.namespace}",
        f"--namespace-labels=governed-by={governed.namespace}", f"--registry-ca={lab.ca_file}",
        "--allow-address-range=127.0.0.0/8", "-o", "json",
    ]  # fmt: skip
    told = command(*tried)
    assert told.exit_code == 0, told.output
    (finding,) = [one for one in json.loads(told.stdout)["findings"] if one["code"] == "ImageUnsigned"]
    assert finding["waivedBy"]["exception"] == "by-hand"
    now["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    now["spec"]["expiresAt"] = soon(-1)
    policies.write_text(yaml.safe_dump_all([governed.policy, objects_only(now)]))
    assert command(*tried).exit_code == 1
    assert command("exception", "end", "by-hand", kubeconfig=lab.kubeconfig).exit_code == 0
    lab.wait_for(lambda: refused(governed), what="the gate refuses again")
    listed = json.loads(command("exception", "list", "-o", "json", kubeconfig=lab.kubeconfig).stdout)
    assert "by-hand" not in {one["name"] for one in listed}


def objects_only(stored: objects.Object) -> objects.Object:
    """A stored object as somebody would keep it in a file."""
    metadata = {key: stored["metadata"][key] for key in ("name", "creationTimestamp")}
    return {key: value for key, value in {**stored, "metadata": metadata}.items() if key != "status"}


def test_an_image_that_no_rule_covers_is_let_in_by_its_digest_only(governed: Governed) -> None:
    lab = governed.lab
    strangers = lab.registry("referrers").repository(f"strangers-{governed.namespace}/app")
    pushed = strangers.push("v1", ImageSpec.distinct(f"{governed.namespace}-stranger", entrypoint=["/app"]))
    by_digest = governed.pod(image=pushed.by_digest)
    assert "ImageNotCovered" in governed.create(by_digest).message
    create(governed, waives=["ImageNotCovered"], tokens="Issue")
    lab.wait_for(lambda: governed.create(by_digest).status == 201, what="it is let in by digest")
    assert "ImageNotCovered" in governed.create(governed.pod(image=pushed.by_tag)).message
    order = objects.revocation(SYSTEM_NAMESPACE, {"digest": pushed.digest})
    stored = lab.admin.post(objects.collection_path(order), order, expect=201).body
    try:
        again = governed.pod(image=pushed.by_digest)
        lab.wait_for(lambda: "ImageRevoked" in governed.create(again).message, what="a Revocation beats it")
    finally:
        lab.admin.delete(objects.object_path(stored))
