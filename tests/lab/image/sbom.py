"""The image's bill of materials: CycloneDX 1.5, as JSON (cyclonedx.org/docs/1.5/json)."""

from __future__ import annotations

import uuid
from typing import Any, Final

from countersign import __version__
from tests.lab.image.build import BuiltImage
from tests.lab.image.layer import Component

PREDICATE_TYPE: Final = "https://cyclonedx.org/bom"
"""What `cosign attest --type cyclonedx` writes (sigstore/cosign, specs/ATTESTATION_SPEC.md)."""


def cyclonedx(image: BuiltImage) -> dict[str, Any]:
    """Debian's packages and Python's distributions with version, purl and checksum of the file that each came in."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # The same image has the same bill.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, image.digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": image.digest,
                "name": "countersign",
                "version": __version__,
                "hashes": _hashes(image.digest.removeprefix("sha256:")),
            }
        },
        "components": [_component(component) for component in image.components],
        "dependencies": [{"ref": image.digest, "dependsOn": [component.purl for component in image.components]}],
    }


def _component(component: Component) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
        "hashes": _hashes(component.sha256),
    }
    if component.license:
        described["licenses"] = [{"expression": component.license}]
    return described


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
