"""EvidenceRoots as the services need them: facts for the judgement, content for whoever checks signatures.

Each content is read once, and only when somebody asks: a cluster whose policies name keys alone never pays for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from countersign.api.evidence_root import MAX_CONTENT_CHARACTERS, EvidenceRoot, content_of
from countersign.trust.policies.policy import DEFAULT_ROOT, PolicySnapshot, RootFacts

NOT_FETCHED: Final = "its content was not fetched yet (kubectl describe evidenceroot {} says why)"
NOT_READABLE: Final = "this release cannot read EvidenceRoot {}: upgrade, or write it as the CRD of this release has it"


class RootContent(NamedTuple):
    """A trusted_root.json, and the hash that stands in the facts of its root."""

    hash: str
    content: bytes


class Known(NamedTuple):
    """One root. Without content its facts say what the problem is."""

    facts: RootFacts
    content: bytes = b""


class KnownRoots(Mapping[str, RootFacts]):
    """The EvidenceRoots of one moment, and the built-in one unless an EvidenceRoot of its name takes its place.

    As a mapping it is what `PolicySnapshot.roots` takes. A content that cannot be used gives facts with a problem, so
    that nothing rests on it; it never gives the facts of another content.
    """

    def __init__(
        self,
        resources: Iterable[EvidenceRoot] = (),
        *,
        unreadable: Iterable[str] = (),
        before: "KnownRoots | None" = None,
    ) -> None:
        """`unreadable`: names of EvidenceRoots that the API server has and this release cannot read. `before`: the
        roots of the moment before, so that a content which has not changed is not read again.
        """
        self._unreadable = frozenset(unreadable)
        self._known: dict[str, Known] = {name: _unusable(NOT_READABLE.format(name)) for name in self._unreadable}
        self._resources = {one.metadata.name: one for one in resources if one.metadata.name not in self._known}
        self._read: dict[str, Known] = before._read if before is not None else {}
        """By content, what it was found to be."""
        if before is not None:
            held = {content_of(one) for one in self._resources.values()} | {""}
            for content in self._read.keys() - held:
                del self._read[content]

    def content(self, name: str) -> RootContent | None:
        """What a root holds; None if there is none that could be used now."""
        known = self.known(name)
        if known is None or known.facts.problem:
            return None
        return RootContent(known.facts.hash, known.content)

    def replaced(self, resources: Iterable[EvidenceRoot]) -> "KnownRoots":
        """These roots with others applied; what was fetched for one counts on under the same source."""
        changed = {one.metadata.name: self._with_fetched(one) for one in resources}
        if not changed:
            return self
        unreadable = self._unreadable - changed.keys()
        return KnownRoots({**self._resources, **changed}.values(), unreadable=unreadable)

    def _with_fetched(self, resource: EvidenceRoot) -> EvidenceRoot:
        """The resource of a file, which has no status, with that of the cluster's own."""
        held = self._resources.get(resource.metadata.name)
        if held is None or resource.status.trusted_root:
            return resource
        return msgspec.structs.replace(resource, status=held.status)

    def known(self, name: str) -> Known | None:
        """The root of that name; None if there is none."""
        if name not in self:
            return None
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._find(self._resources.get(name))
        return found

    def __getitem__(self, name: str) -> RootFacts:
        found = self.known(name)
        if found is None:
            raise KeyError(name)
        return found.facts

    def __contains__(self, name: object) -> bool:
        return name == DEFAULT_ROOT or name in self._resources or name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter({DEFAULT_ROOT: None, **self._resources, **self._known})

    def __len__(self) -> int:
        return len({DEFAULT_ROOT, *self._resources, *self._known})

    def _find(self, resource: EvidenceRoot | None) -> Known:
        content = content_of(resource) if resource is not None else ""
        if not content and resource is not None and not _is_builtin(resource):
            return _unusable(NOT_FETCHED.format(resource.metadata.name))
        found = self._read.get(content)
        if found is None:
            found = self._read[content] = read(content) if content else _public_good()
        return found


def known_roots(snapshot: PolicySnapshot) -> KnownRoots:
    """The roots of a snapshot with their contents; the built-in one alone if it holds facts only."""
    return snapshot.roots if isinstance(snapshot.roots, KnownRoots) else KnownRoots()


def read(content: str) -> Known:
    """What a trusted_root.json is found to be; with a problem, and without content, if it cannot be used."""
    from countersign.signatures.roots.trust_root import BadTrustRoot, parse_trust_root

    encoded = content.encode()
    if len(encoded) > MAX_CONTENT_CHARACTERS:
        return _unusable(f"its content has {len(encoded)} bytes, more than the {MAX_CONTENT_CHARACTERS} that are read")
    try:
        root = parse_trust_root(encoded)
    except BadTrustRoot as error:
        return _unusable(str(error))
    return Known(RootFacts(root.hash, root.anchors, spans=root.spans), encoded)


def _public_good() -> Known:
    from countersign.signatures.roots.trust_root import public_good_root

    return read(public_good_root().decode())


def _is_builtin(resource: EvidenceRoot) -> bool:
    """Whether this release brings a content that goes back to the very root which the resource trusts first."""
    tuf = resource.spec.sigstore.tuf
    return tuf is not None and tuf.builtin is not None and tuf.target_name == "trusted_root.json"


def _unusable(problem: str) -> Known:
    return Known(RootFacts("", frozenset(), problem))
