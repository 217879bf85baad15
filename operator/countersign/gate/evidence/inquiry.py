"""Evidence for a judgement: a receipt's facts where they answer the question, the registry for the rest."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import structlog

from countersign.api.pod import Pod
from countersign.gate.evidence.request import EvidenceRequest
from countersign.signatures.keys import BadPublicKey, PublicKey, parse_public_key
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.evidence.needs import EvidenceNeed, covers
from countersign.trust.images.reference import ImageReference
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.scope import DEFAULT_ACCOUNT
from countersign.trust.receipt import Receipt
from countersign.trust.verdicts.verdict import Evidence

_log = structlog.get_logger()


class EvidenceSource(Protocol):
    """Finds facts out (`gate.evidence.service.EvidenceService`)."""

    async def gather(
        self, requests: Iterable[EvidenceRequest], deadline: float
    ) -> Mapping[EvidenceRequest, ImageFacts | Unverifiable]:
        """An answer to every request, by the deadline (loop time). Never raises for what a registry does."""


async def evidence_for(
    source: EvidenceSource,
    needs: Sequence[EvidenceNeed],
    receipt: Receipt | None,
    subject: Subject,
    until: float,
) -> Evidence:
    """An answer to each need, by image string; the source is asked only for what the receipt does not answer."""
    known: dict[str, ImageFacts | Unverifiable] = {}
    requests: dict[str, EvidenceRequest] = {}
    for need in needs:
        facts = receipt.images.get(need.image) if receipt is not None else None
        if facts is not None and covers(facts, need):
            known[need.image] = facts
        else:
            requests[need.image] = request_for(need, subject.pod, subject.namespace.name)
    if requests:
        answers = await source.gather(requests.values(), until)
        known.update({image: answers[request] for image, request in requests.items()})
    return known


def request_for(need: EvidenceNeed, pod: Pod, namespace: str) -> EvidenceRequest:
    """The need as a question of this pod's, with its credentials."""
    secrets = tuple([reference.name for reference in pod.spec.image_pull_secrets if reference.name])
    return request_of(need, namespace, pod.spec.service_account_name or DEFAULT_ACCOUNT, secrets)


def request_of(
    need: EvidenceNeed,
    namespace: str,
    service_account: str,
    pull_secrets: tuple[str, ...],
    *,
    max_age_seconds: float | None = None,
) -> EvidenceRequest:
    """The need as a question of such pods. Raises BadReference if its image is none."""
    return EvidenceRequest(
        reference=_parse_reference(need.image),
        keys=_keys(need.keys),
        roots=need.roots,
        predicates=need.predicates,
        platforms=need.platforms,
        repositories=need.repositories,
        want_config=need.want_config,
        stale_seconds=need.stale_seconds,
        max_age_seconds=max_age_seconds,
        namespace=namespace,
        service_account=service_account,
        pull_secrets=pull_secrets,
    )


# The same few policies and images come again with every pod of a rollout.
_parse_reference = lru_cache(4096)(ImageReference.parse)


@lru_cache(1024)
def _keys(pems: tuple[str, ...]) -> tuple[PublicKey, ...]:
    found = []
    for pem in pems:
        try:
            found.append(parse_public_key(pem))
        except BadPublicKey as error:
            # The core leaves out what is no key; what is one of a kind that we cannot use vouches for nothing.
            _log.warning("public key of a policy cannot be used", problem=str(error))
    return tuple(found)
