"""The attacker's table of image trust, what people and processes say: policies, roots, calls to the gate."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from countersign.api.gate_calls import OUTLOOK_PATH, TALLIES_PATH
from countersign.keys.calls import MAX_AGE_SECONDS, sign_call
from countersign.keys.receipt_keys import ReceiptKey, ReceiptKeys
from countersign.keys.secrets import decode_receipt_keys, from_secret_data
from tests.attack.image_trust import NAME, SCAN, Target
from tests.fakes.signing import bundle, make_key, statement
from tests.lab.lab import Lab
from tests.stack import objects

ROOTS = "/apis/countersign.dev/v1alpha1/evidenceroots"
POLICIES = "/apis/countersign.dev/v1alpha1/clustertrustpolicies"
NESTED = "predicate.l.all(x, predicate.l.all(y, predicate.l.all(z, x != y || y != z)))"
SLOW = "predicate.l.all(x, predicate.l.all(y, x.name != y.name + 'z'))"


# Whose word counts


@pytest.mark.parametrize("role", ["edit", "admin"])
def test_whoever_runs_a_namespace_writes_no_root_and_no_status_of_one(target: Target, role: str) -> None:
    lab = target.lab
    lab.grant_role(NAME, f"{role}-of-roots", role)
    api = lab.api(f"{role}-of-roots")
    stranger = lab.another_sigstore("stranger").trusted_root.read_text()
    assert api.patch(f"{ROOTS}/{NAME}", {"spec": {"sigstore": {"trustedRoot": stranger}}}).status == 403
    assert api.patch(f"{ROOTS}/{NAME}/status", {"status": {"trustedRoot": stranger}}).status == 403
    assert api.post(ROOTS, objects.evidence_root("public-good", trustedRoot=stranger)).status == 403
    assert api.delete(f"{ROOTS}/{NAME}").status == 403


def test_a_status_that_the_controller_did_not_write_for_this_source_makes_no_root(target: Target) -> None:
    """A cluster admin's slip, or a restored object: what stands in the status counts for what it was fetched from."""
    lab = target.lab
    stranger = lab.another_sigstore("stranger")
    image = target.push("keyless")
    target.sign_keyless(image, stranger.issuers.github("acme/ledger"), sigstore=stranger)
    target.refused(image)
    content = stranger.trusted_root.read_text()
    lab.admin.patch(f"{ROOTS}/{NAME}/status", {"status": {"trustedRoot": content}})
    probe = target.push("keyless")
    target.sign_keyless(probe)
    lab.wait_for(lambda: target.create(probe.by_tag).status == 201, what="the gate goes on")
    target.refused(image)


# Conditions


def scanned(target: Target, name: str, expression: str) -> objects.Object:
    """A policy of this name about a folder of this name, with one condition on the scan."""
    scanner = {"name": "scanner", "key": {"pem": [target.scanner.public_pem]}}
    scan = {"name": "scan", "predicateType": SCAN, "authorities": ["scanner"]}
    rule = {
        **target.rule(name),
        "attestors": [scanner],
        "attestations": [{**scan, "validations": [{"expression": expression}]}],
    }
    return objects.cluster_policy(
        f"{NAME}-{name}", namespaces={"governed-by": NAME}, images=[rule], unmatchedImages="Allow"
    )


def accepted(lab: Lab, name: str) -> tuple[str, str]:
    conditions = lab.admin.get(f"{POLICIES}/{name}", expect=200).body["status"]["conditions"]
    (found,) = [(one["status"], one["message"]) for one in conditions if one["type"] == "Accepted"]
    return found


def test_a_condition_that_is_nested_too_deep_is_refused_with_the_policy_and_holds_for_nobody(target: Target) -> None:
    target.countersign.declare(scanned(target, "nested", NESTED))
    try:
        status, message = accepted(target.lab, f"{NAME}-nested")
        assert (status, "nested" in message) == ("False", True), message
        image = target.push("nested")
        target.attest(image, target.scanner, l=[])
        target.refused(image, "AttestationFailed")
    finally:
        target.lab.admin.delete(f"{POLICIES}/{NAME}-nested")
        target.countersign.settle()


def test_a_condition_that_would_take_hours_holds_for_nobody_and_holds_nobody_up(target: Target) -> None:
    """Within the bounds of form, on an attestation of a hundred thousand packages: it is ended, others go on."""
    policy = scanned(target, "slow", SLOW)
    wider = target.policy()
    wider["spec"]["images"].append(
        {**objects.image_rule([target.rule("slow")["globs"][0]], [target.release.public_pem]), "name": "slow"}
    )
    target.countersign.declare(wider, policy)
    try:
        image, other = target.push("slow"), target.push("keyed")
        target.sign(image)
        target.sign(other)
        target.lab.cosign.attest(
            target.registry, image, target.scanner, predicate_type=SCAN,
            predicate={"l": [{"name": f"package-{number}"} for number in range(100_000)]},
        )  # fmt: skip
        first = target.create(image.by_tag)
        assert first.status in (403, 503), first.message
        target.admitted(other)
        target.lab.wait_for(
            lambda: "longer than 2 s" in target.create(image.by_tag).message, what="the condition was ended", timeout=60
        )
        target.admitted(other)
    finally:
        target.lab.admin.delete(f"{POLICIES}/{NAME}-slow")
        target.countersign.declare(target.policy())


# The gate's own port


def keys(target: Target) -> ReceiptKeys:
    path = f"/api/v1/namespaces/{target.countersign.namespace}/secrets/countersign-receipt-keys"
    return decode_receipt_keys(from_secret_data(target.lab.admin.get(path, expect=200).body["data"]))


def test_nobody_without_the_key_is_told_anything_and_what_was_seen_is_soon_worth_nothing(target: Target) -> None:
    gate, now, good = target.countersign.client("gate"), datetime.now(UTC), keys(target)
    forged = ReceiptKeys(tuple(ReceiptKey(key.id, b"x" * 32, key.created_at) for key in good.keys))
    body = json.dumps({"namespace": NAME, "pod": objects.pod("p", NAME, objects.pod_spec())}).encode()
    old, early = (now + timedelta(seconds=sign * (MAX_AGE_SECONDS + 30)) for sign in (-1, 1))
    for path, sent in ((TALLIES_PATH, b""), (OUTLOOK_PATH, body)):
        for header in (
            "",
            "Bearer x",
            sign_call(forged, path, sent, now),
            sign_call(good, path, sent, old),
            sign_call(good, path, sent, early),
            sign_call(good, path, sent + b" ", now),
            sign_call(good, "/mutate", sent, now),
            sign_call(good, path, sent, now) + "A",
            sign_call(good, path, sent, now).replace(".", ".9", 1),
            "Countersign " + "9" * 200,
        ):
            answer = gate.request("POST", path, sent, headers={"Authorization": header})
            assert (answer.status, answer.data) == (401, b""), header
        assert gate.request("POST", path, sent, headers={"Authorization": sign_call(good, path, sent, now)}).ok
    large = b" " * (32 * 1024 * 1024)
    signed = {"Authorization": sign_call(good, OUTLOOK_PATH, large, datetime.now(UTC))}
    assert gate.request("POST", OUTLOOK_PATH, large, headers=signed).status == 413
    assert gate.request("POST", OUTLOOK_PATH, large).status in (401, 413)


def test_a_receipt_is_no_call(target: Target) -> None:
    image = target.push("keyed")
    target.sign(image)
    pod = objects.pod("receipt", NAME, objects.pod_spec(objects.container(image.by_tag)))
    made = target.eve.post(f"/api/v1/namespaces/{NAME}/pods", pod, expect=201).body
    receipt = made["metadata"]["annotations"]["countersign.dev/receipt"]
    for scheme in ("Countersign", "Bearer"):
        answer = target.countersign.client("gate").request(
            "POST", TALLIES_PATH, b"", headers={"Authorization": f"{scheme} {receipt}"}
        )
        assert (answer.status, answer.data) == (401, b"")


def test_a_bundle_by_a_key_that_nobody_names_is_no_scan(target: Target) -> None:
    image = target.push("scanned")
    target.sign(image)
    target.attach(image, bundle(make_key(), statement(image.digest, SCAN, predicate={"critical": 0})))
    target.refused(image, "AttestationMissing")
