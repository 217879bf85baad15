"""docs/image.md: its commands sign the image, attach its bill of materials, and verify both, on a real registry."""

from __future__ import annotations

import base64
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.cosign import CosignError, KeyPair
from tests.lab.image import debian, sbom
from tests.lab.image.application import PROJECT
from tests.lab.image.build import BuiltImage, countersign_image
from tests.lab.images import PushedImage
from tests.lab.lab import Lab
from tests.lab.registries import Registry
from tests.stack.commandline import countersign


def documented(block: str) -> list[list[str]]:
    """The commands of a fenced block of docs/image.md, by its mark."""
    match = re.search(rf"^```sh {block}\n(.*?)^```", (PROJECT / "docs/image.md").read_text(), re.MULTILINE | re.DOTALL)
    assert match, block
    return [shlex.split(line) for line in match[1].splitlines()]


@dataclass
class Released:
    """The image in a registry, signed and attested as the page says."""

    lab: Lab
    registry: Registry
    built: BuiltImage
    image: PushedImage
    key: KeyPair
    folder: Path

    def run(self, command: list[str], *, image: str = "", key: KeyPair | None = None) -> str:
        """One documented command, with this image and key in the place of its names."""
        key = key or self.key
        names = {
            "$IMAGE": image or self.image.by_digest,
            "cosign.key": str(key.private),
            "cosign.pub": str(key.public),
            "sbom.json": str(self.folder / "sbom.json"),
        }
        program, *arguments = [names.get(word, word) for word in command]
        if program == "cosign":
            return self.lab.cosign.run(*arguments, f"--registry-cacert={self.registry.ca_file}")
        assert program == "countersign"
        reach = [f"--registry-ca={self.lab.ca_file}", "--allow-address-range=127.0.0.0/8"]
        result = countersign(*arguments, *reach, "-o", "json", DOCKER_CONFIG="/nowhere")
        assert result.exit_code == 0, result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def released(lab: Lab, referrers_registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Released:
    if reason := debian.unsupported():
        pytest.skip(reason)
    built = countersign_image()
    # The other one, distribution, copies a blob in memory at each piece of it: a wheel's layer takes it half a minute.
    registry = referrers_registry
    folder = tmp_path_factory.mktemp("release")
    (folder / "sbom.json").write_text(json.dumps(sbom.cyclonedx(built)))
    image = built.push(registry.repository("countersign/released"), "v1")
    made = Released(lab, registry, built, image, lab.cosign.generate_key("release"), folder)
    for command in documented("sign"):
        made.run(command)
    return made


def test_the_documented_commands_verify_signature_and_bill(released: Released) -> None:
    signature, attestation, ours = (released.run(command) for command in documented("verify"))
    assert json.loads(signature)
    statement = json.loads(base64.b64decode(json.loads(attestation)["payload"]))
    assert statement["predicateType"] == sbom.PREDICATE_TYPE
    assert statement["subject"][0]["digest"]["sha256"] == released.built.digest.removeprefix("sha256:")
    assert statement["predicate"] == sbom.cyclonedx(released.built)
    assert released.built.digest in ours


def test_an_image_that_nobody_signed_verifies_by_none_of_them(released: Released) -> None:
    other = released.registry.repository("countersign/unsigned").push("v1")
    for command in documented("verify"):
        with pytest.raises((CosignError, AssertionError)):
            released.run(command, image=other.by_digest)


def test_another_key_verifies_nothing(released: Released) -> None:
    stranger = released.lab.cosign.generate_key("stranger")
    for command in documented("verify"):
        with pytest.raises((CosignError, AssertionError)):
            released.run(command, key=stranger)
