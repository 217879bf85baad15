"""Revocations by what they name, so that asking which end a grant does not read them all.

Orders add up: each exec into a pod with an identity leaves one. Ten thousand grants against a hundred orders would be a
million comparisons whenever everything is looked at.
"""

from collections.abc import Iterable, Iterator

from countersign.api.grant import WorkloadGrant
from countersign.api.revocation import ObjectTarget, Revocation, Target
from countersign.trust.orders.reach import ends

FEW = 4
"""So many orders are read sooner than a grant's names."""
Key = tuple[str, ...]
_ANY: Key = ("any",)


class OrderBook:
    """Some orders, and which of them end a grant (`reach.ends`)."""

    __slots__ = ("_by_key", "_orders", "_system_namespace")

    def __init__(self, revocations: Iterable[Revocation], system_namespace: str) -> None:
        self._system_namespace = system_namespace
        self._orders = tuple(revocations)
        self._by_key: dict[Key, list[int]] = {}
        for index, one in enumerate(self._orders):
            self._by_key.setdefault(_named_by(one), []).append(index)

    def __len__(self) -> int:
        return len(self._orders)

    def against(self, grant: WorkloadGrant, *, node: str = "") -> tuple[Revocation, ...]:
        """Every order that ends this grant, in their order. `node`: where its pod now is."""
        named: Iterable[Revocation] = self._orders
        if len(self._orders) > FEW:
            indices = {index for key in _names_of(grant, node) for index in self._by_key.get(key, ())}
            named = [self._orders[index] for index in sorted(indices)]
        return tuple([one for one in named if ends(one, grant, self._system_namespace, node=node)])


def is_standing(target: Target) -> bool:
    """Whether it bears on what is judged later as well; a target that this release does not know may."""
    once = (target.grant, target.pod, target.node, target.service_account, target.namespace)
    return all(one is None for one in once)


def _named_by(order: Revocation) -> Key:
    """What the order names. Each grant that it ends has this among its names."""
    target, given_in = order.spec.target, order.metadata.namespace
    # As `ends` reads them: the first member that is there.
    if target.digest is not None:
        return ("digest", target.digest)
    if target.key_fingerprint is not None:
        return ("key", target.key_fingerprint)
    if target.signer is not None:
        return ("signer", target.signer.issuer, target.signer.subject)
    if target.pod is not None and target.pod.uid:
        return _object("pod", target.pod, given_in)
    if target.grant is not None:
        return _object("grant", target.grant, given_in)
    if target.pod is not None:
        return _object("pod", target.pod, given_in)
    if target.service_account is not None:
        return _object("serviceAccount", target.service_account, given_in)
    if target.node is not None:
        return ("node", target.node.name)
    if target.namespace is not None:
        return ("namespace", target.namespace.name)
    return _ANY


def _object(kind: str, target: ObjectTarget, given_in: str) -> Key:
    return (kind, target.namespace or given_in, target.name)


def _names_of(grant: WorkloadGrant, node: str) -> Iterator[Key]:
    """Everything that an order could name to end this grant."""
    meta, spec = grant.metadata, grant.spec
    yield ("pod", meta.namespace, spec.pod.name)
    yield ("grant", meta.namespace, meta.name)
    yield ("serviceAccount", meta.namespace, spec.service_account.name)
    yield ("namespace", meta.namespace)
    yield ("node", spec.pod.node_name)
    yield ("node", node)
    for image in spec.images:
        yield ("digest", image.digest)
        for digest in image.runtime_digests:
            yield ("digest", digest)
        for one in image.evidence:
            yield ("key", one.key_fingerprint)
            yield ("signer", one.issuer, one.subject)
    yield _ANY
