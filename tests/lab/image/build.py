"""The image itself: config and manifest over the layers; pushed to a registry, written as an archive, or unpacked."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.lab.image import contract
from tests.lab.image.application import PROJECT, application_layer, dependencies_layer
from tests.lab.image.base import base_layer
from tests.lab.image.debian import architecture
from tests.lab.image.layer import Component, Layer
from tests.lab.images import CONFIG, INDEX, LAYER, MANIFEST, PushedImage, Repository, digest_of

_EPOCH: Final = "1970-01-01T00:00:00Z"
"""When the image says that it was made: what it is made of decides its digest, not the day."""
_REFERENCE_NAME: Final = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME: Final = "io.containerd.image.name"


@dataclass(frozen=True)
class BuiltImage:
    """One image for one platform. Its digest is a function of its layers and of `contract`."""

    layers: tuple[Layer, ...]
    """Debian's base, the wheels that the services import, our own wheel."""
    config: bytes
    architecture: str

    @cached_property
    def manifest(self) -> bytes:
        """The manifest (image-spec, manifest.md)."""
        config = {"mediaType": CONFIG, "digest": digest_of(self.config), "size": len(self.config)}
        layers = [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in self.layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return json.dumps(manifest).encode()

    @property
    def digest(self) -> str:
        """Of the manifest: what a reference names."""
        return digest_of(self.manifest)

    @property
    def size(self) -> int:
        """Bytes that a node pulls."""
        return sum(layer.size for layer in self.layers) + len(self.config) + len(self.manifest)

    @property
    def unpacked(self) -> int:
        """Bytes of the files."""
        return sum(layer.unpacked for layer in self.layers)

    @property
    def components(self) -> tuple[Component, ...]:
        """What is in it."""
        return tuple(component for layer in self.layers for component in layer.components)

    def push(self, repository: Repository, tag: str) -> PushedImage:
        """Upload blobs and manifest, tagged."""
        for layer in self.layers:
            repository.push_blob(layer.path.read_bytes())
        repository.push_blob(self.config)
        return repository.push_manifest(tag, self.manifest, MANIFEST)

    def oci_archive(self, path: Path, name: str = "countersign.example.com/countersign:lab") -> Path:
        """Write an OCI image layout as a tar (image-spec, image-layout.md). `ctr images import` names it so."""
        manifest = {"mediaType": MANIFEST, "digest": self.digest, "size": len(self.manifest)}
        described: dict[str, Any] = {
            **manifest,
            "platform": {"os": "linux", "architecture": self.architecture},
            "annotations": {_CONTAINERD_NAME: name, _REFERENCE_NAME: name.rpartition(":")[2]},
        }
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]}
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
            _add(tar, "index.json", json.dumps(index).encode())
            for blob in (self.manifest, self.config):
                _add(tar, _blob(digest_of(blob)), blob)
            for layer in self.layers:
                entry = tarfile.TarInfo(_blob(layer.digest))
                entry.size, entry.mode = layer.size, 0o644
                with layer.path.open("rb") as content:
                    tar.addfile(entry, content)
        return path

    def unpack(self, folder: Path) -> Path:
        """The file system that a container would see; returns `folder`."""
        for layer in self.layers:
            layer.unpack(folder)
        return folder


def countersign_image(sources: Path = PROJECT) -> BuiltImage:
    """The product's image from these sources, its layers from the cache where nothing changed.

    Sources of another revision run on this revision's pinned packages and entry point.

    Takes some 40 s on two cores with an empty cache, a second or two with a full one. Raises ImageError.
    """
    base = base_layer()
    layers = (base, dependencies_layer(base), application_layer(base, sources))
    machine = architecture().oci
    return BuiltImage(layers, _config(layers, machine), machine)


def _config(layers: tuple[Layer, ...], machine: str) -> bytes:
    """The configuration (image-spec, config.md)."""
    config = {
        "created": _EPOCH,
        "architecture": machine,
        "os": "linux",
        "config": {
            "User": contract.USER,
            "ExposedPorts": {port: {} for port in contract.PORTS},
            "Env": [f"{name}={value}" for name, value in contract.ENVIRONMENT.items()],
            "Entrypoint": list(contract.ENTRYPOINT),
            "WorkingDir": "/",
            "Labels": dict(contract.LABELS),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            {"created": _EPOCH, "created_by": f"countersign tests/lab/image: {part}"}
            for part in ("Debian 12 packages", "pinned wheels", "countersign")
        ],
    }
    return json.dumps(config).encode()


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))
