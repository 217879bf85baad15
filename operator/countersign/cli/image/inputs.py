"""What people give to say whom they trust: key files, an image's name."""

from pathlib import Path
from typing import NamedTuple

from countersign.cli.terminal.exits import fail
from countersign.signatures.keys import BadPublicKey, PublicKey, parse_public_key
from countersign.trust.images.reference import BadReference, ImageReference


class KeyFile(NamedTuple):
    """A public key and where it came from."""

    path: Path
    pem: str
    key: PublicKey


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
