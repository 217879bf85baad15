"""The receipt stands for one pod's images, and fits no other pod."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from countersign.api.admission import UserInfo
from countersign.api.clock import format_time
from countersign.api.pod import Pod
from countersign.api.policy import Binding, Requester
from countersign.trust.pods.spec_hash import spec_hash
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import NamespaceFacts
from countersign.trust.receipt import (
    MAX_GROUPS,
    RECEIPT_MAX_AGE_SECONDS,
    BadReceipt,
    Receipt,
    as_admitted,
    decode,
    encode,
    make,
    mismatch,
)
from tests.unit.trust.build import (
    DIGEST,
    OTHER_DIGEST,
    PINNED,
    REPOSITORY,
    cluster_policy,
    container,
    facts,
    pod,
    subject,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-7d9", "uid": "rs-uid", "controller": True}
USER = UserInfo(username="system:serviceaccount:kube-system:replicaset-controller", uid="u", groups=("g1", "g2"))


def a_pod(*, metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:
    members = {"ownerReferences": [OWNER], "labels": {"app": "api"}, **(metadata or {})}
    spec.setdefault("serviceAccountName", "api")
    return pod(spec.pop("container", container(image=PINNED)), metadata=members, **spec)


def a_subject(of: Pod | None = None, requester: UserInfo | None = USER) -> Subject:
    return subject(of or a_pod(), requester=requester)


def a_receipt(of: Subject | None = None) -> Receipt:
    return make(of or a_subject(), [cluster_policy()], {PINNED: facts()}, now=NOW, nonce="n" * 32)


def test_it_fits_the_pod_that_it_was_made_for() -> None:
    assert mismatch(a_receipt(), a_subject(), NOW) is None


def test_it_says_what_was_found_and_for_which_policies() -> None:
    receipt = a_receipt()
    assert receipt.images == {PINNED: facts()}
    assert [(policy.uid, policy.generation) for policy in receipt.policies] == [("uid-payments", 1)]
    assert (receipt.namespace, receipt.service_account, receipt.issued_at) == ("payments", "api", int(NOW.timestamp()))
    assert receipt.owner is not None
    assert receipt.owner.uid == "rs-uid"


def test_it_reads_back_as_it_was_written_and_the_same_bytes_each_time() -> None:
    receipt = a_receipt()
    assert decode(encode(receipt)) == receipt
    assert encode(decode(encode(receipt))) == encode(receipt)


_OTHERS: dict[str, Callable[[], Subject]] = {
    "namespace": lambda: msgspec.structs.replace(a_subject(), namespace=NamespaceFacts("other", {})),
    "service account": lambda: a_subject(a_pod(serviceAccountName="web")),
    "no service account": lambda: a_subject(a_pod(serviceAccountName="")),
    "requester": lambda: a_subject(requester=UserInfo(username="jane", uid="u", groups=("g1", "g2"))),
    "requester of the same name": lambda: a_subject(requester=msgspec.structs.replace(USER, uid="v")),
    "requester out of the group": lambda: a_subject(requester=msgspec.structs.replace(USER, groups=("g1",))),
    "owner": lambda: a_subject(a_pod(metadata={"ownerReferences": [{**OWNER, "uid": "other"}]})),
    "no owner": lambda: a_subject(a_pod(metadata={"ownerReferences": []})),
    "label": lambda: a_subject(a_pod(metadata={"labels": {"app": "web"}})),
    "more labels": lambda: a_subject(a_pod(metadata={"labels": {"app": "api", "x": "y"}})),
    "image": lambda: a_subject(a_pod(container=container(image=f"{REPOSITORY}@{OTHER_DIGEST}"))),
    "command": lambda: a_subject(a_pod(container=container(image=PINNED, command=["sh"]))),
    "env": lambda: a_subject(a_pod(container=container(image=PINNED, env=[{"name": "A", "value": "b"}]))),
    "volume": lambda: a_subject(a_pod(volumes=[{"name": "x", "hostPath": {"path": "/"}}])),
    "hostPID": lambda: a_subject(a_pod(hostPID=True)),
}


@pytest.mark.parametrize("other", _OTHERS)
def test_it_fits_no_pod_with_another(other: str) -> None:
    problem = mismatch(a_receipt(), _OTHERS[other](), NOW)
    assert problem is not None
    assert problem.startswith("the receipt was ")


def test_what_the_cluster_writes_into_an_admitted_pod_does_not_matter() -> None:
    live = a_pod(
        metadata={
            "uid": "pod-uid",
            "resourceVersion": "7",
            "annotations": {"countersign.dev/receipt": "x"},
            "labels": {"app": "api", "topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "b"},
            "creationTimestamp": format_time(NOW + timedelta(seconds=1)),
        },
        nodeName="n1",
        ephemeralContainers=[container("debug")],
    )
    assert mismatch(a_receipt(), a_subject(live, requester=None), NOW + timedelta(days=3)) is None


@pytest.mark.parametrize(
    ("seconds", "fits"),
    [(0, True), (-3, True), (RECEIPT_MAX_AGE_SECONDS, True), (RECEIPT_MAX_AGE_SECONDS + 1, False), (-60, False)],
)
def test_the_pod_is_created_within_seconds_of_it(seconds: int, fits: bool) -> None:
    created = format_time(NOW + timedelta(seconds=seconds))
    later = NOW + timedelta(days=1)
    assert (mismatch(a_receipt(), a_subject(a_pod(metadata={"creationTimestamp": created})), later) is None) is fits
    assert (mismatch(a_receipt(), a_subject(), NOW + timedelta(seconds=seconds)) is None) is fits


def test_a_creation_time_that_cannot_be_read_fits_nothing() -> None:
    assert mismatch(a_receipt(), a_subject(a_pod(metadata={"creationTimestamp": "yesterday"})), NOW) is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        encode(a_receipt())[:-1] + b',"more":1}',
        encode(a_receipt()).replace(b'"version":1', b'"version":2'),
        encode(a_receipt()).replace(b'"checked_keys"', b'"checked_keyz"'),
        b"[" * 100_000,
    ],
)
def test_what_is_no_receipt_of_this_release_is_refused(payload: bytes) -> None:
    with pytest.raises(BadReceipt):
        decode(payload)


def test_of_too_many_groups_those_that_policies_name_are_kept() -> None:
    many = UserInfo(username="jane", groups=tuple(f"group-{number:04}" for number in range(500)))
    binding = Binding(requesters=(Requester(kind="Group", name="group-0499"),))
    receipt = make(a_subject(requester=many), [cluster_policy(binding=binding)], {PINNED: facts()}, now=NOW, nonce="n")
    assert len(receipt.requester.groups) == MAX_GROUPS
    assert receipt.requester.groups[0] == "group-0499"
    assert mismatch(receipt, a_subject(requester=many), NOW) is None


def test_a_live_pod_is_judged_by_the_labels_and_the_requester_of_its_admission() -> None:
    live = a_subject(a_pod(metadata={"labels": {"app": "escaped"}}), requester=None)
    admitted = as_admitted(a_receipt(), live)
    assert admitted.pod.metadata.labels == {"app": "api"}
    assert admitted.requester == UserInfo(username=USER.username, uid="u", groups=("g1", "g2"))
    assert admitted.pod.spec is live.pod.spec


def test_equal_specs_have_equal_hashes_whatever_the_order_and_the_defaults() -> None:
    one = pod(
        container(image=PINNED, env=[{"name": "A", "value": "b"}]), volumes=[{"name": "x", "secret": {"a": 1, "b": 2}}]
    )
    two = pod(
        {"image": PINNED, "env": [{"value": "b", "name": "A"}], "name": "api", "args": [], "resources": {"cpu": "1"}},
        volumes=[{"secret": {"b": 2, "a": 1}, "name": "x"}],
        hostPID=False,
        priority=0,
    )
    assert spec_hash(one) == spec_hash(two)
    assert len(spec_hash(one)) == 71
    assert spec_hash(one) != spec_hash(pod(container(image=f"{REPOSITORY}@{DIGEST}")))
