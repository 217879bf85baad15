"""Images made by hand: manifest, config and one layer, pushed over the distribution API. No container engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.lab.http import HttpClient
from tests.lab.programs import go_platform

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True)
class ImageSpec:
    """What an image's config says, and which files its one layer holds (path -> content)."""

    entrypoint: Sequence[str] = ("/app",)
    cmd: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "65532"
    files: Mapping[str, bytes] = field(default_factory=lambda: {"app": b"#!/bin/true\n"})
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def distinct(cls, mark: str, **fields: Any) -> Self:
        """An image whose content, and with it its digest, differs from that of every other mark."""
        return cls(**{"labels": {"mark": mark}, **fields})


@dataclass(frozen=True)
class PushedImage:
    """An image in a registry. `repository` includes the host."""

    repository: str
    tag: str
    digest: str
    media_type: str
    size: int

    @property
    def by_tag(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def by_digest(self) -> str:
        return f"{self.repository}@{self.digest}"

    def descriptor(self) -> dict[str, Any]:
        """As an index lists it (image-spec, descriptor.md)."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class Repository:
    """One repository of a registry."""

    def __init__(self, http: HttpClient, host: str, name: str) -> None:
        self._http = http
        self.name = name
        self.reference = f"{host}/{name}"

    def push(
        self,
        tag: str,
        spec: ImageSpec | None = None,
        *,
        architecture: str = "amd64",
        annotations: dict[str, str] | None = None,
    ) -> PushedImage:
        """Push an image for one platform, tagged."""
        spec = spec or ImageSpec.distinct(f"{self.name}:{tag}")
        tarball = _layer(spec.files)
        layer = gzip.compress(tarball, mtime=0)
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {
                    "User": spec.user,
                    "Env": [f"{name}={value}" for name, value in spec.env.items()],
                    "Entrypoint": list(spec.entrypoint),
                    "Cmd": list(spec.cmd),
                    "Labels": dict(spec.labels),
                },
                "rootfs": {"type": "layers", "diff_ids": [digest_of(tarball)]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self.push_blob(config)},
            "layers": [{"mediaType": LAYER, **self.push_blob(layer)}],
        }
        if annotations:
            manifest["annotations"] = annotations
        return self.push_manifest(tag, manifest, MANIFEST)

    def push_index(self, tag: str, specs: Mapping[str, ImageSpec]) -> PushedImage:
        """Push an image for several platforms: architecture -> what it is there."""
        manifests = []
        for architecture, spec in specs.items():
            image = self.push(f"{tag}-{architecture}", spec, architecture=architecture)
            manifests.append({**image.descriptor(), "platform": {"os": "linux", "architecture": architecture}})
        return self.push_manifest(tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)

    def push_blob(self, data: bytes) -> dict[str, Any]:
        """Upload bytes; returns {digest, size}."""
        digest = digest_of(data)
        upload = self._http.post(f"/v2/{self.name}/blobs/uploads/", b"", expect=202).headers["Location"]
        self._http.request(
            "PUT",
            upload,
            data,
            query={"digest": digest},
            content_type="application/octet-stream",
            expect=201,
        )
        return {"digest": digest, "size": len(data)}

    def push_manifest(self, tag: str, manifest: Mapping[str, Any] | bytes, media_type: str) -> PushedImage:
        """Put a manifest, as these very bytes if bytes are given, under a tag or a digest."""
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self._http.request("PUT", f"/v2/{self.name}/manifests/{tag}", data, content_type=media_type, expect=201)
        return PushedImage(self.reference, tag, digest_of(data), media_type, len(data))

    def move_tag(self, tag: str, image: PushedImage) -> PushedImage:
        """Let `tag` name this image, which this repository already holds."""
        data = self.get_manifest(image.digest)
        return self.push_manifest(tag, data, image.media_type)

    def get_manifest(self, reference: str) -> bytes:
        """The bytes under a tag or digest."""
        headers = {"Accept": f"{MANIFEST}, {INDEX}"}
        return self._http.request("GET", f"/v2/{self.name}/manifests/{reference}", headers=headers, expect=200).data

    def get_blob(self, digest: str) -> bytes:
        """The bytes of a layer or configuration."""
        return self._http.get(f"/v2/{self.name}/blobs/{digest}", expect=200).data

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of what refers to this digest, where the registry has the referrers API."""
        return list(self._http.get(f"/v2/{self.name}/referrers/{digest}", expect=200).body["manifests"] or [])

    def delete(self, digest: str) -> None:
        """Delete a manifest, as whoever may write to the registry can."""
        self._http.delete(f"/v2/{self.name}/manifests/{digest}", expect=202)

    def tags(self) -> list[str]:
        """All tags, those of signatures included."""
        return list(self._http.get(f"/v2/{self.name}/tags/list", expect=200).body.get("tags") or [])


def oci_archive(name: str, *, entrypoint: Sequence[str], files: Mapping[str, bytes]) -> bytes:
    """An image of one layer as a tar in OCI layout (image-spec, image-layout.md), named for containerd."""
    layer = _layer(files)
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": LAYER.removesuffix("+gzip"), "digest": digest_of(layer), "size": len(layer)}],
        }
    ).encode()
    named = {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**named, "annotations": {_CONTAINERD_NAME: name}}]}
    blobs = {f"blobs/sha256/{digest_of(blob).removeprefix('sha256:')}": blob for blob in (layer, config, manifest)}
    layout = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}
    return _layer({**layout, **blobs})


def _architecture() -> str:
    return go_platform()[1]


def digest_of(data: bytes) -> str:
    """`sha256:...` of these bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _layer(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
