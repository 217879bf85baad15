"""A standing Revocation ends every grant that rests on what it names, at the verifier and on record, and refuses what
comes after. How long that takes stands in the log of the run (`-s`); `tests/bench/ends.py` measures it."""

from __future__ import annotations

import time

import pytest

from countersign.trust.evidence.fingerprints import pem_fingerprint
from tests.stack import objects
from tests.stack.governed import Governed, govern
from tests.stack.installation import Installation

ROOT = "standing"
REPLICAS = 5


def by_identity(governed: Governed) -> objects.Object:
    """The image is signed by a workflow, and the policy asks for that. Returns the target of an order against it."""
    lab, name = governed.lab, governed.namespace
    governed.countersign.declare(objects.evidence_root(ROOT, trustedRoot=lab.sigstore.trusted_root.read_text()))
    who = lab.sigstore.issuers.github(f"acme/{name}")
    registry = lab.registry("referrers")
    lab.cosign.sign_keyless(registry, governed.image, who, lab.sigstore)
    identity = {"issuer": who.issuer, "subject": who.subject}
    keyless = {"identities": [identity], "evidenceRootRef": {"name": ROOT}}
    rule = {
        **objects.image_rule([f"{registry.host}/{name}/**"]),
        "authorities": [{"name": "ci", "keyless": keyless}],
    }
    changed = {**governed.policy, "spec": {**governed.policy["spec"], "images": [rule]}}
    governed.countersign.declare(changed)
    return {"signer": identity}


@pytest.mark.parametrize("what", ["digest", "keyFingerprint", "signer"])
def test_a_standing_order_ends_what_rests_on_it_and_refuses_what_comes_after(
    countersign: Installation, what: str
) -> None:
    governed = govern(countersign)
    lab = governed.lab
    if what == "digest":
        target: objects.Object = {"digest": governed.image.digest}
    elif what == "keyFingerprint":
        target = {"keyFingerprint": pem_fingerprint(governed.key.public_pem) or ""}
    else:
        target = by_identity(governed)
    pods = [governed.running() for _ in range(REPLICAS)]
    tokens = [governed.token(pod) for pod in pods]
    assert all(governed.active(token) for token in tokens)
    order = objects.revocation(governed.namespace, target)
    began = time.perf_counter()
    made = lab.admin.post(objects.collection_path(order), order, expect=201).body
    for token in tokens:
        governed.await_inactive(token)
    inactive = time.perf_counter() - began
    for pod in pods:
        status = governed.countersign.grant_of(pod, state="Revoked")["status"]
        assert status["reason"] == "RevokedByOrder"
        assert status["causedBy"] == f"Revocation {governed.namespace}/{made['metadata']['name']}"
    print(f"{what}: inactive at the verifier {inactive:.3f} s, on record {time.perf_counter() - began:.3f} s")
    answer = governed.create()
    assert answer.status == 403, answer.message
    assert ("ImageRevoked" if what == "digest" else "revoked") in answer.message
