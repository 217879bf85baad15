"""The vectors of sigstore-conformance (tests/unit/signatures/vectors), as our parsers and sigstore-python take them."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from countersign.signatures.errors import SignatureError
from countersign.signatures.formats.bundles import read_bundle
from countersign.signatures.keys import PublicKey, parse_public_key
from countersign.signatures.roots.trust_root import public_good_root
from countersign.signatures.signers import Found, find_signers, open_bundle
from countersign.signatures.witnesses.log_bodies import Signed

VECTORS = Path(__file__).parents[1] / "unit" / "signatures" / "vectors" / "conformance.json"


class Vector(NamedTuple):
    name: str
    bundle: bytes
    root: bytes
    artifact: bytes
    key: str

    @property
    def members(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.bundle))
        except ValueError:
            return {}

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        return (parse_public_key(self.key),) if self.key else ()


@cache
def vectors() -> dict[str, Vector]:
    content = json.loads(VECTORS.read_text())
    roots = {name: json.dumps(root).encode() for name, root in content["roots"].items()}
    return {
        name: Vector(
            name,
            case["bundle"].encode(),
            roots[case["root"]] if "root" in case else public_good_root(),
            case.get("artifact", content["artifact"]).encode(),
            case.get("key", ""),
        )
        for name, case in content["cases"].items()
    }


def signers_of(vector: Vector, roots: Any) -> Found:
    """Who signed it; a bundle that signs a blob is taken apart here, for we open those of statements only."""
    members = vector.members
    if "messageSignature" not in members:
        opened = open_bundle(vector.bundle, vector.keys, roots)
        return Found(opened.vouches, opened.problems)
    material = read_bundle(vector.bundle).material
    try:
        signature = base64.b64decode(members["messageSignature"]["signature"], validate=True)
    except ValueError:
        raise SignatureError("Malformed", "not base64") from None
    return find_signers(Signed(vector.artifact, signature), material, vector.keys, roots, "bundle")
