"""The admission receipt: what the gate found out about one pod's images, and for which pod.

It stands for image facts only. Binding, runtime and verdict are judged anew by whoever reads it. It is signed elsewhere
(a compact JWS in the annotation `countersign.dev/receipt`); here is what is signed, and whether it fits a pod.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec

from countersign.api import clock
from countersign.api.admission import UserInfo
from countersign.api.meta import ObjectMeta
from countersign.trust.evidence.facts import ImageFacts
from countersign.trust.pods.spec_hash import spec_hash
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import Policy
from countersign.trust.policies.scope import account_of

VERSION: Final = 1
RECEIPT_MAX_AGE_SECONDS: Final = 30
"""A pod must be created this soon after its receipt: the longest that a webhook may take (timeoutSeconds)."""
UNTIMELY: Final = f"the receipt was not given within {RECEIPT_MAX_AGE_SECONDS} s before the pod's creation"
CLOCK_SKEW_SECONDS: Final = 5
"""How far the clocks of gate and API server may differ. Creation times are whole seconds, too."""
MAX_GROUPS: Final = 128
"""Groups of the requester that a receipt keeps, those that the policies name first."""
NODE_LABELS: Final = frozenset({"topology.kubernetes.io/zone", "topology.kubernetes.io/region"})
"""Labels that `pods/binding` copies from the node (KEP-4742): they may differ from those at admission."""


class _Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything in a receipt: what is not understood is not accepted."""


class ReceiptRequester(_Signed, frozen=True, kw_only=True):
    """Who asked for the pod, as the API server authenticated them."""

    username: str
    uid: str
    groups: tuple[str, ...]


class ReceiptOwner(_Signed, frozen=True, kw_only=True):
    """The pod's controller reference, as its author wrote it."""

    api_version: str
    kind: str
    name: str
    uid: str


class ReceiptPolicy(_Signed, frozen=True, kw_only=True):
    """A governing policy and its state at admission."""

    uid: str
    generation: int


class Receipt(_Signed, frozen=True, kw_only=True):
    """What is signed."""

    version: Literal[1] = VERSION
    namespace: str
    service_account: str
    requester: ReceiptRequester
    owner: ReceiptOwner | None
    labels: dict[str, str]
    """The pod's labels at admission, by which selectors keep judging it."""
    spec_hash: str
    policies: tuple[ReceiptPolicy, ...]
    images: dict[str, ImageFacts]
    """Facts by image string, as it stands in the admitted pod."""
    issued_at: int
    """Seconds since the epoch."""
    nonce: str
    """Random, at least 128 bits: the grant's name derives from it, so that a receipt is spent once."""


class BadReceipt(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The bytes are no receipt of this release."""


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Receipt)


def encode(receipt: Receipt) -> bytes:
    """The receipt as JSON, the same bytes for equal receipts."""
    return _encoder.encode(receipt)


def decode(payload: bytes) -> Receipt:
    """Read what `encode` wrote. The signature has been verified before. Raises BadReceipt."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadReceipt(f"not a receipt of version {VERSION}: {str(error)[:200]}") from None


def make(
    subject: Subject, policies: Iterable[Policy], images: Mapping[str, ImageFacts], *, now: datetime, nonce: str
) -> Receipt:
    """The receipt for a pod. `subject.pod` is the pod as the patch leaves it, `images` facts by its image strings."""
    governing = tuple(policies)
    namespace, account = account_of(subject)
    return Receipt(
        namespace=namespace,
        service_account=account,
        requester=_requester(subject.requester or UserInfo(), governing),
        owner=_owner(subject.pod.metadata),
        labels=subject.pod.metadata.labels,
        spec_hash=spec_hash(subject.pod),
        policies=tuple([ReceiptPolicy(uid=policy.ref.uid, generation=policy.ref.generation) for policy in governing]),
        images=dict(images),
        issued_at=int(now.timestamp()),
        nonce=nonce,
    )


def mismatch(receipt: Receipt, subject: Subject, now: datetime) -> str | None:
    """Why the receipt is not that of this pod, or None.

    At admission (`subject.requester` is known) the requester must be the same. The time that counts is the pod's
    creation, or `now` where it has none yet.
    """
    pod = subject.pod
    namespace, account = account_of(subject)
    if receipt.namespace != namespace:
        return f"the receipt was given in namespace {receipt.namespace}"
    if receipt.service_account != account:
        return f"the receipt was given for service account {receipt.service_account}"
    if subject.requester is not None and not _same_requester(receipt.requester, subject.requester):
        return f"the receipt was given to {receipt.requester.username}"
    if receipt.owner != _owner(pod.metadata):
        return "the receipt was given for a pod of another controller"
    if _own_labels(receipt.labels) != _own_labels(pod.metadata.labels):
        return "the receipt was given for a pod with other labels"
    if not _is_timely(receipt, pod.metadata, now):
        return UNTIMELY
    if receipt.spec_hash != spec_hash(pod):
        return "the receipt was given for another pod spec"
    return None


def as_admitted(receipt: Receipt, live: Subject) -> Subject:
    """The live pod for judgement at stage `live`: under the labels and the requester of its admission.

    Labels of a live pod may be edited by many; selectors speak of those at admission.
    """
    requester = receipt.requester
    metadata = msgspec.structs.replace(live.pod.metadata, labels=receipt.labels)
    return msgspec.structs.replace(
        live,
        pod=msgspec.structs.replace(live.pod, metadata=metadata),
        requester=UserInfo(username=requester.username, uid=requester.uid, groups=requester.groups),
    )


def _requester(user: UserInfo, policies: tuple[Policy, ...]) -> ReceiptRequester:
    groups = user.groups
    if len(groups) > MAX_GROUPS:
        named = {
            wanted.name for policy in policies for wanted in policy.spec.binding.requesters if wanted.kind == "Group"
        }
        groups = tuple(sorted(groups, key=lambda group: (group not in named, group))[:MAX_GROUPS])
    return ReceiptRequester(username=user.username, uid=user.uid, groups=groups)


def _same_requester(signed: ReceiptRequester, user: UserInfo) -> bool:
    return signed.username == user.username and signed.uid == user.uid and set(signed.groups) <= set(user.groups)


def _owner(metadata: ObjectMeta) -> ReceiptOwner | None:
    for reference in metadata.owner_references:
        if reference.controller:
            return ReceiptOwner(
                api_version=reference.api_version, kind=reference.kind, name=reference.name, uid=reference.uid
            )
    return None


def _own_labels(labels: dict[str, str]) -> dict[str, str]:
    if NODE_LABELS.isdisjoint(labels):
        return labels
    return {key: value for key, value in labels.items() if key not in NODE_LABELS}


def _is_timely(receipt: Receipt, metadata: ObjectMeta, now: datetime) -> bool:
    try:
        created = clock.parse(metadata.creation_timestamp) if metadata.creation_timestamp else now
    except ValueError:
        return False
    age = created.timestamp() - receipt.issued_at
    return -CLOCK_SKEW_SECONDS <= age <= RECEIPT_MAX_AGE_SECONDS
