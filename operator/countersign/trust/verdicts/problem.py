"""A problem: what a rule says before a policy and its mode make a finding of it."""

from typing import Literal, NamedTuple

from countersign.trust.orders.exceptions import Waiver
from countersign.trust.verdicts.findings import ReasonCode

Stage = Literal["mutate", "validate", "live"]
"""Which pod is judged: as its author wrote it (before the patch), as it is about to be stored, or as it lives."""


class Problem(NamedTuple):
    """Why a pod, or one container of it, does not satisfy a policy. The phrases are those of `findings.Finding`."""

    code: ReasonCode
    expected: str
    found: str
    remedy: str
    container: str = ""
    image: str = ""
    transient: bool = False
    denies: bool = True
    blocks_identity: bool = True
    waiver: Waiver | None = None
    predicate_type: str = ""
    """Of the attestation that is missing or does not do; empty: the problem is about none."""
