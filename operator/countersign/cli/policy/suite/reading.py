"""Files of cases: found, read strictly, and made ready to run. Every problem names the file and the member."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from countersign.api import clock
from countersign.cli.files.manifests import Document, documents, in_force
from countersign.cli.files.schema_check import model_problems
from countersign.cli.pods.workloads import Planned, planned, user
from countersign.cli.policy.suite.model import (
    API_VERSION,
    KIND,
    CaseEvidence,
    CaseNamespace,
    Expected,
    PolicyTest,
    PolicyTestCase,
    RecordedImage,
)
from countersign.cli.terminal.exits import fail
from countersign.trust.pods.subject import Subject
from countersign.trust.policies.policy import NamespaceFacts, PolicySnapshot

_SUFFIXES: Final = (".yaml", ".yml")
_POLICIES: Final = "policies"
_GROUP: Final = API_VERSION.partition("/")[0] + "/"


class Files:
    """YAML files, each read once."""

    def __init__(self, root: Path | None) -> None:
        """`root`: content of the evidence root that counts by default."""
        self.root = root
        self._read: dict[Path, tuple[Document, ...]] = {}

    def documents(self, path: Path) -> tuple[Document, ...]:
        """The objects in it. Ends the command on a bad one."""
        if path not in self._read:
            self._read[path] = tuple(documents(path))
        return self._read[path]


class CaseFile(NamedTuple):
    """A file of cases."""

    path: Path
    top: Path
    """The folder that was asked for: defaults are looked for up to there."""
    content: PolicyTest
    files: Files


class Case(NamedTuple):
    """A case, complete."""

    name: str
    file: CaseFile
    snapshot: PolicySnapshot
    subject: Subject
    now: datetime | None
    """None: the present."""
    evidence: CaseEvidence
    own_evidence: bool
    """The case says its evidence itself."""
    expected: Expected


class BadCase(ValueError):  # noqa: N818 - the condition
    """A case that cannot be run. The message says why, and where."""


def case_files(paths: Sequence[Path], root: Path | None = None) -> Iterator[CaseFile]:
    """The files of cases among these files and in these folders. Ends the command on one that is none, or bad."""
    read = Files(root)
    for path in paths:
        if not path.is_dir():
            found = _case_file(path, path.parent, read)
            if found is None:
                fail(f"{path}: no {KIND} ({API_VERSION}). To try policies on one pod, add --pod FILE")
            yield found
            continue
        files = [one for one in _yaml_below(path) if _GROUP.encode() in one.read_bytes()]
        some = [found for one in files if (found := _case_file(one, path, read)) is not None]
        if not some:
            fail(f"{path}: holds no {KIND} ({API_VERSION}): docs/policy-tests.md tells how to write one")
        yield from some


def complete(file: CaseFile, case: PolicyTestCase) -> Case:
    """The case with all that its file says for it. Raises BadCase; ends the command on a policy that cannot be read."""
    content = file.content
    document = _pod(file, case)
    namespace = case.namespace or content.namespace or CaseNamespace()
    home = namespace.name or document.namespace or "default"
    facts = NamespaceFacts(home, {**namespace.labels, "kubernetes.io/metadata.name": home})
    objects = [
        *in_force_for(file, case.policies),
        *(Document(str(file.path), dict(one)) for one in (*content.objects, *case.objects)),
    ]
    plan = _planned(document, home)
    requester = case.requester or content.requester
    when = case.now or content.now
    now = parse_time(when, "now") if when else None
    return Case(
        name=case.name,
        file=file,
        snapshot=in_force(objects, home, content.system_namespace, file.files.root, now=now),
        subject=Subject(
            pod=plan.pod,
            namespace=facts,
            requester=user(requester.user, requester.groups) if requester else plan.requester,
            controller=plan.controller,
            controller_known=True,
        ),
        now=now,
        evidence=_evidence(content.evidence, case.evidence),
        own_evidence=case.evidence is not None,
        expected=case.expect,
    )


def parse_time(text: str, member: str) -> datetime:
    """A time of a case. Raises BadCase."""
    try:
        return clock.parse(text)
    except ValueError:
        raise BadCase(f"{member}: {text!r} is no RFC 3339 time such as 2026-01-02T03:04:05Z") from None


def beside(file: CaseFile, name: str, member: str) -> Path:
    """A file that a case names. Raises BadCase if there is none."""
    path = file.path.parent / name
    if not path.exists():
        raise BadCase(f"{member}: {path} does not exist")
    return path


def _case_file(path: Path, top: Path, files: Files) -> CaseFile | None:
    all_ = files.documents(path)
    found = [one for one in all_ if str(one.content.get("apiVersion", "")).startswith(_GROUP)]
    if not found:
        return None
    if len(found) > 1 or len(all_) > 1:
        fail(f"{path}: write one {KIND} a file, with its cases in the list `cases`")
    content = found[0].content
    if (content["apiVersion"], content.get("kind")) != (API_VERSION, KIND):
        fail(f"{path}: expected apiVersion {API_VERSION} and kind {KIND}")
    problems = model_problems(PolicyTest, content)
    if problems:
        fail("\n       ".join(f"{path}: {one}" for one in problems))
    try:
        made = msgspec.convert(content, PolicyTest)
    except msgspec.ValidationError as error:
        fail(f"{path}: {error}")
    if not (made.cases or made.uses):
        fail(f"{path}: holds neither cases nor uses")
    return CaseFile(path, top, made, files)


def _yaml_below(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.suffix in _SUFFIXES and one.is_file())


def in_force_for(file: CaseFile, policies: Sequence[str]) -> Iterator[Document]:
    """What the files hold that a case names, or else its file, or else the folder. Raises BadCase."""
    names = policies or file.content.policies
    folders = [beside(file, name, "policies") for name in names] if names else [_default_policies(file)]
    for path in folders:
        if path.is_dir():
            for one in _yaml_below(path):
                yield from file.files.documents(one)
        else:
            yield from file.files.documents(path)


def _default_policies(file: CaseFile) -> Path:
    folder = file.path.parent
    while True:
        if (folder / _POLICIES).is_dir():
            return folder / _POLICIES
        if folder in {file.top, folder.parent}:
            raise BadCase(f"policies: name files or folders; there is no folder {_POLICIES}/ beside {file.path}")
        folder = folder.parent


def _pod(file: CaseFile, case: PolicyTestCase) -> Document:
    if (case.pod is None) == (not case.pod_file):
        raise BadCase("give exactly one of pod and podFile")
    if case.pod is not None:
        return Document("pod", dict(case.pod))
    path = file.path.parent / case.pod_file
    if not path.is_file():
        raise BadCase(f"podFile: {path} does not exist")
    found = file.files.documents(path)
    if len(found) != 1:
        raise BadCase(f"podFile: {path} holds {len(found)} objects: one Pod, or one workload that makes pods")
    return found[0]


def _planned(document: Document, namespace: str) -> Planned:
    try:
        return planned(document.content, namespace)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadCase(f"{document.name}: {error}") from None


def _evidence(of_file: CaseEvidence | None, of_case: CaseEvidence | None) -> CaseEvidence:
    general = of_file or CaseEvidence()
    if of_case is None:
        return general
    images: dict[str, RecordedImage] = {one.image: one for one in (*general.images, *of_case.images)}
    return CaseEvidence(registry=of_case.registry, images=tuple(images.values()))
