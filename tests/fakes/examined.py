"""Candidates by key, put to the product's own examination: a vouch, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from countersign.signatures.examine import Candidate, Question, examine
from countersign.signatures.formats.annotations import SIGNATURE_ANNOTATION
from countersign.trust.evidence.facts import Vouch


class RefusedError(Exception):
    """The candidate does not vouch. `problem` is the first word of what the examination says."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problem = text.partition(":")[0]


def vouch_of_bundle(data: bytes, digest: str, pems: Sequence[str]) -> Vouch:
    """The one vouch of a bundle. Raises RefusedError."""
    return _vouch("bundle", data, {}, digest, pems)


def vouch_of_payload(payload: bytes, signature: str, digest: str, pems: Sequence[str]) -> Vouch:
    """The one vouch of a simple-signing payload. Raises RefusedError."""
    return _vouch("simple-signing", payload, {SIGNATURE_ANNOTATION: signature}, digest, pems)


def _vouch(
    form: Literal["bundle", "simple-signing"],
    data: bytes,
    annotations: Mapping[str, str],
    digest: str,
    pems: Sequence[str],
) -> Vouch:
    found = examine(
        Candidate(form=form, data=data, annotations=dict(annotations)), Question(digest=digest, keys=tuple(pems))
    )
    if not found.vouches:
        raise RefusedError(found.problem)
    (vouch,) = found.vouches
    return vouch
