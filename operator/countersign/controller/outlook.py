"""What would become of a pod if it were created now, as far as the controller knows: kept beside the pod."""

import math
from typing import NamedTuple

from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.outlook import Outcome

Basis = tuple[tuple[tuple[str, int], ...], tuple[str, ...]]
"""Policies that govern the pod, by UID and generation, and the orders that stand: what the words rest on."""


class Word(NamedTuple):
    """What one policy would say."""

    uid: str
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    not_injected: bool = False


class Outlook(NamedTuple):
    """The words of all policies that govern a pod."""

    words: tuple[Word, ...]
    basis: Basis
    snapshot: PolicySnapshot
    """The snapshot that it was last compared with."""
    until: float = math.inf
    """When to ask again (monotonic time): what a registry says may change."""
