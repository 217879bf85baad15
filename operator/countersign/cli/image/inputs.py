"""What people give to say whom they trust: key files, a trust root's file, an image's name."""

from pathlib import Path
from typing import NamedTuple

from countersign.api.evidence_root import EvidenceRoot, EvidenceRootSpec, SigstoreRoot
from countersign.api.meta import ObjectMeta
from countersign.cli.terminal.exits import fail
from countersign.signatures.keys import BadPublicKey, PublicKey, parse_public_key
from countersign.signatures.known_roots import KnownRoots
from countersign.trust.images.reference import BadReference, ImageReference
from countersign.trust.policies.policy import DEFAULT_ROOT


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


def load_root(path: Path | None) -> KnownRoots:
    """The evidence root in this file under the name that counts by default; without a file, the public-good one."""
    if path is None:
        return KnownRoots()
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        fail(f"--evidence-root {path}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"--evidence-root {path}: not UTF-8 text")
    spec = EvidenceRootSpec(sigstore=SigstoreRoot(trusted_root=content))
    roots = KnownRoots([EvidenceRoot(metadata=ObjectMeta(name=DEFAULT_ROOT), spec=spec)])
    if problem := roots[DEFAULT_ROOT].problem:
        fail(f"--evidence-root {path}: {problem}")
    return roots


def parse_image(text: str) -> ImageReference:
    """The reference. Ends the command if it is none."""
    try:
        return ImageReference.parse(text)
    except BadReference as error:
        fail(str(error))
