"""Standing revocations: digests, keys and signers that count for nothing, now and later. Nothing waives them.

A Revocation in Countersign's own namespace reaches the whole cluster; anywhere else only its own namespace.
"""

from collections.abc import Iterable
from typing import NamedTuple

from countersign.api.revocation import Revocation, Target


class Standing(NamedTuple):
    """What is revoked for one namespace."""

    digests: frozenset[str] = frozenset()
    fingerprints: frozenset[str] = frozenset()
    signers: frozenset[tuple[str, str]] = frozenset()
    """Issuer and subject."""

    def __or__(self, other: "Standing") -> "Standing":
        """Both together."""
        return Standing(
            self.digests | other.digests, self.fingerprints | other.fingerprints, self.signers | other.signers
        )


NOTHING = Standing()


def reaches(revocation: Revocation, namespace: str, system_namespace: str) -> bool:
    """Whether the order concerns that namespace at all."""
    given_in = revocation.metadata.namespace
    return bool(given_in) and given_in in (namespace, system_namespace)


class StandingIndex:
    """The standing revocations of a snapshot, by namespace."""

    __slots__ = ("_cluster", "_own", "_system_namespace")

    def __init__(self, revocations: Iterable[Revocation], system_namespace: str) -> None:
        targets: dict[str, list[Target]] = {}
        for revocation in revocations:
            targets.setdefault(revocation.metadata.namespace, []).append(revocation.spec.target)
        each = {namespace: _standing(given) for namespace, given in targets.items()}
        self._system_namespace = system_namespace
        self._cluster = each.pop(system_namespace, NOTHING)
        self._own = {name: own | self._cluster for name, own in each.items() if name and own != NOTHING}

    def for_namespace(self, namespace: str) -> Standing:
        """What is revoked for pods of that namespace."""
        return self._own.get(namespace, self._cluster)


def _standing(targets: list[Target]) -> Standing:
    """What the targets revoke for good; those that end what exists only add nothing."""
    return Standing(
        digests=frozenset(one.digest for one in targets if one.digest is not None),
        fingerprints=frozenset(one.key_fingerprint for one in targets if one.key_fingerprint is not None),
        signers=frozenset((one.signer.issuer, one.signer.subject) for one in targets if one.signer is not None),
    )


def standing(revocations: Iterable[Revocation], namespace: str, system_namespace: str) -> Standing:
    """What is revoked for pods of that namespace. For single questions; a snapshot keeps a `StandingIndex`."""
    return StandingIndex(revocations, system_namespace).for_namespace(namespace)
