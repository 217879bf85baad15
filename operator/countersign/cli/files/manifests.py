"""YAML files that people wrote: policies and audiences, and what makes pods. Every problem names its path."""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from countersign.api import clock
from countersign.api.audience import ProtectedAudience
from countersign.api.evidence_root import EvidenceRoot, EvidenceRootSpec, SigstoreRoot
from countersign.api.exception import TrustException
from countersign.api.meta import ObjectMeta
from countersign.api.names import API_VERSION
from countersign.api.policy import ClusterTrustPolicy, TrustPolicy
from countersign.api.revocation import Revocation
from countersign.cli.files.schema_check import problems
from countersign.cli.terminal.exits import fail
from countersign.signatures.roots.known_roots import KnownRoots
from countersign.trust.policies.policy import DEFAULT_ROOT, Policy, PolicySnapshot, from_resource

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
STDIN: Final = Path("-")

Declared = ClusterTrustPolicy | TrustPolicy | ProtectedAudience | Revocation | TrustException | EvidenceRoot
_KINDS: Final[dict[str, type[Declared]]] = {
    kind.KIND: kind
    for kind in (ClusterTrustPolicy, TrustPolicy, ProtectedAudience, Revocation, TrustException, EvidenceRoot)
}


class _Loader(yaml.SafeLoader):
    """Times stay texts, as JSON has them and as the API server reads them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Document(NamedTuple):
    """One object of a file."""

    source: str
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """File, kind and name, for messages."""
        meta = self.content.get("metadata")
        name = (meta.get("name") or meta.get("generateName") or "") if isinstance(meta, dict) else ""
        return f"{self.source}: {self.content.get('kind', 'an object without kind')} {name}".rstrip()

    @property
    def namespace(self) -> str:
        """As the object has it; empty: it names none."""
        meta = self.content.get("metadata")
        return str(meta.get("namespace") or "") if isinstance(meta, dict) else ""


def documents(path: Path) -> Iterator[Document]:
    """The objects in a YAML or JSON file (`-`: standard input), lists taken apart. Ends the command on a bad one."""
    source = "standard input" if path == STDIN else str(path)
    try:
        text = sys.stdin.read(MAX_FILE_BYTES + 1) if path == STDIN else path.read_text("utf-8")
    except OSError as error:
        fail(f"{source}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{source}: not UTF-8 text")
    if len(text) > MAX_FILE_BYTES:
        fail(f"{source}: larger than {MAX_FILE_BYTES} bytes")
    try:
        loaded = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        fail(f"{source}: not YAML: {error}")
    for content in loaded:
        if content is None:
            continue
        if not isinstance(content, dict):
            fail(f"{source}: holds {type(content).__name__}, not Kubernetes objects")
        if content.get("kind") == "List":
            yield from (Document(source, item) for item in content.get("items") or () if isinstance(item, dict))
        else:
            yield Document(source, content)


def declarations(paths: Sequence[Path], namespace: str) -> list[Declared]:
    """All that these files declare. `namespace`: for objects that name none."""
    return declared_in([one for path in paths for one in documents(path)], namespace)


def declared_in(documents: Sequence[Document], namespace: str) -> list[Declared]:
    """As `declarations`, of objects at hand."""
    declared: list[Declared] = []
    faults: list[str] = []
    for document in documents:
        found = _declared(document, namespace, faults)
        if found is not None:
            declared.append(found)
    if faults:
        fail("\n       ".join(faults))
    return declared


def snapshot(paths: Sequence[Path], namespace: str, system_namespace: str, root: Path | None = None) -> PolicySnapshot:
    """All that these files declare, in force. `namespace`: for objects that name none.

    `root`: a trusted_root.json for the evidence root that counts by default, unless the files have that one, too.
    """
    return in_force([one for path in paths for one in documents(path)], namespace, system_namespace, root)


def in_force(
    documents: Sequence[Document],
    namespace: str,
    system_namespace: str,
    root: Path | None = None,
    *,
    now: datetime | None = None,
) -> PolicySnapshot:
    """As `snapshot`, of objects at hand, created at that time."""
    declared = declared_in(documents, namespace)
    policies = [_policy(one) for one in declared if isinstance(one, ClusterTrustPolicy | TrustPolicy)]
    if not policies:
        fail("no ClusterTrustPolicy and no TrustPolicy in these files")
    return PolicySnapshot(
        policies=tuple(policies),
        audiences=tuple(one for one in declared if isinstance(one, ProtectedAudience)),
        revocations=tuple(one for one in declared if isinstance(one, Revocation)),
        roots=KnownRoots([*given_root(root), *(one for one in declared if isinstance(one, EvidenceRoot))]),
        exceptions=tuple(as_created(one, now) for one in declared if isinstance(one, TrustException)),
        system_namespace=system_namespace,
    )


def given_root(path: Path | None) -> list[EvidenceRoot]:
    """An evidence root of this trusted_root.json, by the name that counts by default. Ends the command on a bad one."""
    if path is None:
        return []
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        fail(f"--evidence-root {path}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"--evidence-root {path}: not UTF-8 text")
    spec = EvidenceRootSpec(sigstore=SigstoreRoot(trusted_root=content))
    given = EvidenceRoot(metadata=ObjectMeta(name=DEFAULT_ROOT), spec=spec)
    if problem := KnownRoots([given])[DEFAULT_ROOT].problem:
        fail(f"--evidence-root {path}: {problem}")
    return [given]


def _declared(document: Document, namespace: str, faults: list[str]) -> Declared | None:
    content = document.content
    kind = _KINDS.get(str(content.get("kind")))
    if kind is None or content.get("apiVersion") != API_VERSION:
        faults.append(f"{document.name}: expected apiVersion {API_VERSION} and kind {', '.join(_KINDS)}")
        return None
    found = problems(kind, content)
    if found:
        faults += [f"{document.name}: {problem}" for problem in found]
        return None
    metadata = content.get("metadata") or {}
    if kind.NAMESPACED:
        metadata = {"namespace": namespace, **metadata}
    try:
        return msgspec.convert({**content, "metadata": metadata}, kind)
    except msgspec.ValidationError as error:
        faults.append(f"{document.name}: {error}")
        return None


def as_created(exception: TrustException, now: datetime | None = None) -> TrustException:
    """The exception as if it were created at that time, by default the present, unless it says when it was."""
    meta = exception.metadata
    if meta.creation_timestamp is None:
        created = clock.format_time(now or datetime.now(UTC))
        meta = msgspec.structs.replace(meta, creation_timestamp=created, uid=meta.uid or meta.name)
    return msgspec.structs.replace(exception, metadata=meta)


def _policy(resource: ClusterTrustPolicy | TrustPolicy) -> Policy:
    policy = from_resource(resource)
    ref = policy.ref
    # Evidence names policies by UID, and a file has none.
    return msgspec.structs.replace(policy, ref=ref._replace(uid=ref.uid or str(ref), generation=ref.generation or 1))
