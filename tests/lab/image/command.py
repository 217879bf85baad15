"""`python -m tests.lab image`: build, and write, push or describe what was built."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.lab.http import HttpClient
from tests.lab.image import sbom
from tests.lab.image.build import BuiltImage, countersign_image
from tests.lab.image.errors import ImageError
from tests.lab.images import PushedImage, Repository


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser("image", help="build the product's image without a container engine")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it as an OCI archive")
    parser.add_argument("--name", default="countersign:lab", help="what the archive calls it (default: %(default)s)")
    parser.add_argument("--push", metavar="HOST/NAME:TAG", help="push it to a registry")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="CA of that registry")
    parser.add_argument("--plain-http", action="store_true", help="speak plain HTTP to that registry")
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="write its bill of materials (CycloneDX)")
    parser.set_defaults(run=_image)


def _image(arguments: argparse.Namespace) -> int:
    image = countersign_image()
    print(f"{image.digest}  linux/{image.architecture}")
    for layer in image.layers:
        print(f"  {layer.size / 1e6:6.1f} MB, {layer.unpacked / 1e6:6.1f} MB unpacked, {layer.digest}")
    print(f"  {image.size / 1e6:6.1f} MB, {image.unpacked / 1e6:6.1f} MB unpacked in all")
    if arguments.output:
        image.oci_archive(arguments.output, arguments.name)
    if arguments.sbom:
        arguments.sbom.write_text(json.dumps(sbom.cyclonedx(image), indent=1) + "\n")
    if arguments.push:
        print(_push(image, arguments.push, arguments.ca_file, plain=arguments.plain_http).by_digest)
    return 0


def _push(image: BuiltImage, reference: str, ca_file: Path | None, *, plain: bool) -> PushedImage:
    host, _, path = reference.partition("/")
    name, _, tag = path.partition(":")
    if not (name and tag and urlsplit(f"//{host}").hostname):
        raise ImageError(f"--push wants HOST/NAME:TAG, not {reference}")
    http = HttpClient(f"{'http' if plain else 'https'}://{host}", ca_file=ca_file)
    return image.push(Repository(http, host, name), tag)
