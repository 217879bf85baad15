"""What would become of a pod if it were created now, as far as the controller knows: kept beside the pod."""

import math
from typing import NamedTuple

from countersign.trust.policies.policy import PolicySnapshot
from countersign.trust.verdicts.outlook import Outcome


class Basis(NamedTuple):
    """What a word rests on besides the pod: once it changes, the word is to be said anew."""

    policies: tuple[tuple[str, int], ...] = ()
    """UID and generation of those that govern it."""
    revocations: tuple[str, ...] = ()
    """UIDs."""
    roots: tuple[str, ...] = ()
    """Hashes of the evidence roots that the policies name."""
    exceptions: tuple[str, ...] = ()
    """UIDs of those in force."""


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
