"""docs/cookbook: every policy is taken by the API server, and every command does what its page says.

The pages name real registries and the public Sigstore. Here the registry's host stands for theirs, and the lab's
Sigstore, whose issuers bear the real names, for the public one; all else is run as it is written.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import yaml

from countersign.api.crds import crd
from countersign.api.objects import KINDS
from tests.lab import builder
from tests.lab.images import ImageSpec, PushedImage, Repository
from tests.lab.lab import Lab
from tests.lab.registries import Registry
from tests.lab.sigstore.issuer import Identity, Issuers
from tests.stack.commandline import countersign
from tests.stack.cookbook import Block, Step, blocks, pipeline_steps, with_files
from tests.stack.objects import object_path

FOLDER = Path(__file__).parents[2] / "docs/cookbook"
MIRROR = "https://tuf.example.com"
HOSTS = ("registry.example.com", "registry.gitlab.com", "mirror.example.com")
ARRIVES = "mirror.example.com/inside/"
"""Images here are brought by the page's own commands."""
IMAGE = re.compile(rf"(?:{'|'.join(map(re.escape, HOSTS))})/[a-z0-9/._-]+:[A-Za-z0-9._-]+")
OURS = "countersign.dev/"


Who = Callable[[Issuers], Identity]


@dataclass
class Scene:
    """What a page needs: as whom its pipeline signs, and who else must not pass its policies."""

    identity: Who | None = None
    strangers: tuple[Who, ...] = ()
    """Whose signature alone passes none of its policies."""
    others: dict[str, Who] = field(default_factory=dict)
    """As whom else commands run, by the word that their block has (`as=...`)."""
    policy: tuple[str, ...] = ("policy.yaml",)
    image: str = "registry.example.com/payments/api:stranger"
    public: bool = True
    """The page means the public Sigstore: the lab's stands for it."""


def _release(issuers: Issuers) -> Identity:
    return issuers.github("acme/payments")


def _fork(issuers: Issuers) -> Identity:
    return issuers.github("eve/payments")


def _branch(issuers: Issuers) -> Identity:
    return issuers.github("acme/payments", ref="refs/heads/feature")


SCENES: dict[str, Scene] = {
    "README.md": Scene(),
    "air-gap.md": Scene(_release, (_fork, _branch), image="mirror.example.com/inside/payments/api:stranger"),
    "cosign-key.md": Scene(strangers=(_release,)),
    "from-kyverno.md": Scene(
        _release, (_fork,), others={"scan": lambda issuers: issuers.github("acme/payments", workflow="scan.yml")}
    ),
    "from-policy-controller.md": Scene(_release, (_fork, _branch)),
    "github-actions.md": Scene(
        _release,
        (_fork, _branch, lambda issuers: issuers.github("acme/payments", runner_environment="self-hosted")),
        others={
            "tag": lambda issuers: issuers.github("acme/payments", ref="refs/tags/v1.4.0"),
            "reusable": lambda issuers: issuers.github(
                "acme/ledger", reusable="acme/workflows/.github/workflows/release.yml@refs/tags/v2"
            ),
        },
    ),
    "gitlab.md": Scene(
        lambda issuers: issuers.gitlab("acme/payments"),
        (
            lambda issuers: issuers.gitlab("eve/payments"),
            lambda issuers: issuers.gitlab("acme/payments", ref="feature"),
        ),
        image="registry.gitlab.com/acme/payments:stranger",
    ),
    "private-sigstore.md": Scene(
        others={"person": lambda issuers: issuers.email("release@example.com")},
        strangers=(lambda issuers: issuers.email("eve@example.com"),),
        policy=("policy.yaml", "root.yaml"),
        public=False,
    ),
    "slsa-provenance.md": Scene(_release, (_fork, _branch)),
    "vulnerability-gate.md": Scene(strangers=(_release,)),
}
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))


@pytest.fixture(scope="module")
def kitchen(programs: None) -> Iterator[Lab]:
    """A control plane that knows our kinds: what is applied to it binds nobody."""
    with Lab.start() as own:
        for kind in KINDS:
            definition = crd(kind)
            assert own.admin.apply(object_path(definition), definition).ok
        for kind in KINDS:
            path = f"/apis/countersign.dev/v1alpha1/{kind.PLURAL}"
            own.wait_for(partial(_served, own, path), what=f"{path} is served")
        own.create_namespace("countersign-system")
        yield own


def _served(lab: Lab, path: str) -> bool:
    return lab.admin.get(path).ok


@pytest.fixture(scope="module")
def registry(kitchen: Lab) -> Registry:
    return kitchen.registry("referrers")


class Cook:
    """Follows one page, in a folder of its own."""

    def __init__(self, lab: Lab, registry: Registry, folder: Path, scene: Scene) -> None:
        self.lab = lab
        self.registry = registry
        self.folder = folder
        self.scene = scene
        self.mirror = lab.sigstore.mirror()
        self.environment = self._environment()
        self.pushed: dict[str, PushedImage] = {}
        (folder / "trusted_root.json").write_bytes(lab.sigstore.trusted_root.read_bytes())
        (folder / "root.json").write_bytes(self.mirror.root_file.read_bytes())

    def here(self, text: str) -> str:
        """The text with our registry's host."""
        for host in HOSTS:
            text = text.replace(host, self.registry.host)
        return text.replace(MIRROR, self.mirror.url)

    def push(self, image: str) -> PushedImage:
        """An image of that name, other than all others."""
        name, _, tag = image.partition("/")[2].rpartition(":")
        pushed = self.registry.repository(name).push(tag, ImageSpec.distinct(f"{image} {self.folder.name}"))
        self.pushed[pushed.by_tag] = pushed
        return pushed

    def write(self, block: Block) -> None:
        """The file that a block is. Ours are put to the API server, and of pipelines what signs is run."""
        text = self.here(with_files(block.text, self.folder))
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if block.language != "yaml":
            return
        documents = list(yaml.safe_load_all(text))
        ours = [one for one in documents if str(one.get("apiVersion")).startswith(OURS)]
        if ours:
            self.lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f-", input_=yaml.safe_dump_all(ours))
        for step in pipeline_steps(documents[0]):
            if "cosign " in step.command:
                self._shell(step.command, self._variables(step), block)

    def run(self, block: Block) -> None:
        """The commands of a block; the last one ends as the block says, all before it well."""
        who = self.scene.others[block.options["as"]] if "as" in block.options else None
        more = {"SIGSTORE_ID_TOKEN": who(self.lab.sigstore.issuers).token} if who else {}
        text = self.here(block.text)
        wanted = int(block.options.get("exit", "0"))
        if wanted:
            *before, last = text.replace("\\\n", " ").strip().splitlines()
            self._shell("\n".join(before), more, block)
            self._shell(last, more, block, wanted)
        else:
            self._shell(text, more, block)

    def copy(self, source: str, target: str) -> None:
        """What `oras copy --recursive` does between two repositories of a registry with the referrers API."""
        here, there = (
            self.registry.repository(self.here(one).partition("/")[2].rpartition(":")[0]) for one in (source, target)
        )
        image = self.pushed[self.here(source)]
        _copy(here, there, image.digest, image.media_type, target.rpartition(":")[2])
        for one in here.referrers(image.digest):
            _copy(here, there, one["digest"], one["mediaType"], one["digest"])

    def _variables(self, step: Step) -> dict[str, str]:
        """A step's variables; the digest of what it would have built is that of the page's first image of the name."""
        image = step.variables["IMAGE"]
        digest = next(one.digest for one in self.pushed.values() if one.repository == image)
        return {**{name: str(value) for name, value in step.variables.items()}, "DIGEST": digest}

    def _shell(self, commands: str, more: Mapping[str, str], block: Block, wanted: int = 0) -> None:
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        told = f"line {block.line}: {commands}\n{answer.stdout}\n{answer.stderr}"
        assert answer.returncode == wanted, told

    def _environment(self) -> dict[str, str]:
        programs = self.folder / "bin"
        programs.mkdir()
        paths = {
            **builder.ensure(["cosign", "kubectl"]),
            "countersign": Path(sys.executable).with_name("countersign"),
        }
        for name, path in paths.items():
            (programs / name).symlink_to(path)
        sigstore = self.lab.sigstore
        identity = self.scene.identity
        return {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.lab.kubeconfig),
            "COLUMNS": "400",
            "COSIGN_PASSWORD": "",
            "SSL_CERT_FILE": str(self.lab.ca_file),
            "SIGSTORE_ID_TOKEN": identity(sigstore.issuers).token if identity else "",
            "COUNTERSIGN_REGISTRY_CA": str(self.lab.ca_file),
            "COUNTERSIGN_ALLOW_ADDRESS_RANGE": "127.0.0.0/8",
            **({"COUNTERSIGN_EVIDENCE_ROOT": str(sigstore.trusted_root)} if self.scene.public else {}),
        }


def _copy(here: Repository, there: Repository, digest: str, media_type: str, name: str) -> None:
    manifest = here.get_manifest(digest)
    parsed = json.loads(manifest)
    for blob in (parsed["config"], *parsed["layers"]):
        there.push_blob(here.get_blob(blob["digest"]))
    there.push_manifest(name, manifest, media_type)


@pytest.fixture
def cook(request: pytest.FixtureRequest, kitchen: Lab, registry: Registry, tmp_path: Path) -> Cook:
    scene = SCENES[request.param]
    found = Cook(kitchen, registry, tmp_path, scene)
    if scene.public:
        found.run(Block("sh", {}, f"cosign initialize --mirror={MIRROR} --root=root.json", 0))
    return found


def test_every_page_is_followed() -> None:
    assert sorted(SCENES) == PAGES


@pytest.mark.parametrize(("cook", "page"), [(page, page) for page in PAGES], indirect=["cook"])
def test_a_page_of_the_cookbook_does_what_it_says(cook: Cook, page: str) -> None:
    text = (FOLDER / page).read_text()
    for image in dict.fromkeys(IMAGE.findall(text)):
        if not image.startswith(ARRIVES):
            cook.push(image)
    for block in blocks(FOLDER / page):
        if block.text.startswith("oras copy --recursive "):
            cook.copy(*block.text.split()[-2:])
        if "foreign" in block.options:
            assert yaml.safe_load(block.text)["apiVersion"] == block.options["foreign"]
            continue
        if block.options.get("skip"):
            continue
        if block.file:
            cook.write(block)
        elif block.language == "sh":
            cook.run(block)
        else:
            pytest.fail(f"line {block.line}: neither a file nor commands: {block.text}")
    for stranger in cook.scene.strangers:
        refused(cook, stranger(cook.lab.sigstore.issuers))


def refused(cook: Cook, identity: Identity) -> None:
    """An image that this identity signed does not pass the page's policy."""
    image = cook.push(cook.scene.image)
    cook.lab.cosign.sign_keyless(cook.registry, image, identity, cook.lab.sigstore)
    result = countersign(
        *("image", "verify", image.by_tag, *(f"--policy={cook.folder / one}" for one in cook.scene.policy)),
        *([f"--evidence-root={cook.lab.sigstore.trusted_root}"] if cook.scene.public else []),
        *(f"--registry-ca={cook.lab.ca_file}", "--allow-address-range=127.0.0.0/8"),
        DOCKER_CONFIG="/nowhere",
    )
    assert result.exit_code == 1, result.output


@pytest.mark.parametrize(
    ("page", "line", "why"),
    [
        (page, block.line, block.options["skip"])
        for page in PAGES
        for block in blocks(FOLDER / page)
        if block.options.get("skip")
    ],
)
def test_what_is_not_run_says_why(page: str, line: int, why: str) -> None:
    assert why
    pytest.skip(f"{page}:{line}: {why}")
