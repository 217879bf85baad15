"""`countersign image verify`: who vouches for an image, by the same client and the same checks as the gate's."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from countersign.cli.image.registries import (
    ANSWER_SECONDS,
    AddressRangeOption,
    DockerConfigOption,
    InsecureRegistryOption,
    Registries,
    RegistryCAOption,
    evidence_source,
)
from countersign.cli.terminal.exits import Exit, fail, note
from countersign.cli.terminal.output import Format, OutputOption, print_json, print_rows
from countersign.gate.evidence.service import EvidenceRequest
from countersign.signatures.keys import BadPublicKey, PublicKey, parse_public_key
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.images.reference import BadReference, ImageReference

app = typer.Typer(help="Look at images as the gate does.", no_args_is_help=True)

COLUMNS = ("key", "fingerprint", "signed", "format", "reference")


class KeyFile(NamedTuple):
    """A public key and where it came from."""

    path: Path
    pem: str
    key: PublicKey


@app.callback()
def _group() -> None:
    # Typer makes a group of a single command only where there is a callback.
    pass


@app.command()
def verify(
    image: Annotated[str, typer.Argument(help="Image, by tag or digest.")],
    *,
    key: Annotated[list[Path], typer.Option(help="PEM file of a public key (cosign.pub). Repeatable: any may vouch.")],
    output: OutputOption = Format.TABLE,
    registry_ca: RegistryCAOption = None,
    insecure_registry: InsecureRegistryOption = None,
    allow_address_range: AddressRangeOption = None,
    docker_config: DockerConfigOption = None,
) -> None:
    """Resolve an image and say who vouches for its digest: cosign signatures, classic or in bundles, by these keys.

    Exit code 0: some key vouches. 1: none of them does. 3: it could not be found out.
    """
    keys = load_keys(key)
    registries = Registries(registry_ca or (), insecure_registry or (), allow_address_range or (), docker_config)
    found = find_facts(parse_image(image), keys, registries)
    if isinstance(found, Unverifiable):
        if output is Format.JSON:
            print_json({"image": found.image, "verified": None, "reason": found.reason, "message": found.message})
        fail(f"{found.reason}: {found.message}", Exit.UNKNOWN)
    rows = _rows(keys, found)
    pinned = f"{found.image}@{found.digest}"
    if output is Format.JSON:
        print_json({"image": pinned, "digest": found.digest, "verified": bool(found.vouches), "keys": rows})
    else:
        note(pinned)
        print_rows(COLUMNS, rows, output)
    if not found.vouches:
        note(f"not signed by {'this key' if len(keys) == 1 else 'any of these keys'}: cosign sign --key ... {pinned}")
    raise typer.Exit(Exit.YES if found.vouches else Exit.NO)


def find_facts(
    reference: ImageReference, keys: list[KeyFile], registries: Registries, *, want_config: bool = False
) -> ImageFacts | Unverifiable:
    """What the registry says about the image."""
    request = EvidenceRequest(
        reference=reference,
        keys=tuple(one.key for one in keys),
        want_config=want_config,
        namespace="",
        service_account="",
    )

    async def ask() -> ImageFacts | Unverifiable:
        async with evidence_source(registries) as source:
            deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
            return (await source.gather([request], deadline))[request]

    return asyncio.run(ask())


def load_keys(paths: list[Path]) -> list[KeyFile]:
    """The keys in these files, each once. Ends the command if one is none."""
    found: dict[str, KeyFile] = {}
    for path in paths:
        try:
            pem = path.read_text("utf-8")
            key = parse_public_key(pem)
        except OSError as error:
            fail(f"--key {path}: {error.strerror}")
        except (UnicodeDecodeError, BadPublicKey) as error:
            fail(f"--key {path}: {error}")
        found.setdefault(key.fingerprint, KeyFile(path, pem.strip() + "\n", key))
    return list(found.values())


def parse_image(text: str) -> ImageReference:
    """The reference. Ends the command if it is none."""
    try:
        return ImageReference.parse(text)
    except BadReference as error:
        fail(str(error))


def _rows(keys: list[KeyFile], found: ImageFacts) -> list[dict[str, Any]]:
    rows = []
    for one in keys:
        base = {"key": one.path.name, "fingerprint": one.key.fingerprint}
        vouches = [vouch for vouch in found.vouches if vouch.key_fingerprint == one.key.fingerprint]
        rows += [{**base, "signed": "yes", "format": vouch.format, "reference": vouch.reference} for vouch in vouches]
        if not vouches:
            rows.append({**base, "signed": "no", "format": "", "reference": ""})
    return rows
