"""Standing revocations: digests and keys that count for nothing, now and later. Nothing waives them.

A Revocation in Countersign's own namespace reaches the whole cluster; anywhere else only its own namespace.
"""

from collections.abc import Iterable
from typing import NamedTuple

from countersign.api.revocation import Revocation


class Standing(NamedTuple):
    """What is revoked for one namespace."""

    digests: frozenset[str]
    fingerprints: frozenset[str]


NOTHING = Standing(frozenset(), frozenset())


def reaches(revocation: Revocation, namespace: str, system_namespace: str) -> bool:
    """Whether the order concerns that namespace at all."""
    given_in = revocation.metadata.namespace
    return bool(given_in) and given_in in (namespace, system_namespace)


class StandingIndex:
    """The standing revocations of a snapshot, by namespace."""

    __slots__ = ("_cluster", "_own", "_system_namespace")

    def __init__(self, revocations: Iterable[Revocation], system_namespace: str) -> None:
        digests: dict[str, set[str]] = {}
        fingerprints: dict[str, set[str]] = {}
        for revocation in revocations:
            target = revocation.spec.target
            namespace = revocation.metadata.namespace
            if target.digest is not None:
                digests.setdefault(namespace, set()).add(target.digest)
            if target.key_fingerprint is not None:
                fingerprints.setdefault(namespace, set()).add(target.key_fingerprint)
        namespaces = digests.keys() | fingerprints.keys()
        each = {
            name: Standing(frozenset(digests.get(name, ())), frozenset(fingerprints.get(name, ())))
            for name in namespaces
        }
        self._system_namespace = system_namespace
        self._cluster = each.pop(system_namespace, NOTHING)
        self._own = {
            name: Standing(own.digests | self._cluster.digests, own.fingerprints | self._cluster.fingerprints)
            for name, own in each.items()
            if name
        }

    def for_namespace(self, namespace: str) -> Standing:
        """What is revoked for pods of that namespace."""
        return self._own.get(namespace, self._cluster)


def standing(revocations: Iterable[Revocation], namespace: str, system_namespace: str) -> Standing:
    """What is revoked for pods of that namespace. For single questions; a snapshot keeps a `StandingIndex`."""
    return StandingIndex(revocations, system_namespace).for_namespace(namespace)
