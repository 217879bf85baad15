"""An OCI registry over real HTTPS that holds what it is given, and misbehaves as it is told."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from aiohttp import web

from tests.fakes.signing import PrivateKey, bundle, classic_payload, sign, statement
from tests.lab.pki import CertificateAuthority

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = b"{}"

Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Seen(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    authorization: str | None


class FakeRegistry:
    """One server. `misbehave` is asked first about each request; None lets the registry answer."""

    def __init__(self, ca: CertificateAuthority, *, referrers_api: bool = True, plain_http: bool = False) -> None:
        self.referrers_api = referrers_api
        self.misbehave: Misbehaviour | None = None
        self.seen: list[Seen] = []
        self.basic: set[str] = set()
        """Acceptable `user:password` pairs; empty: anonymous access."""
        self.bearer: str | None = None
        """The token that is asked for, if any; given by `/token` to anybody (or to `basic` pairs)."""
        self.realm: str | None = None
        self.token_answer: dict[str, Any] = {"expires_in": 300}
        self._tls: ssl.SSLContext | None = None
        if not plain_http:
            files = ca.server("fake-registry")
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(files.cert, files.key)
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._referrers: dict[tuple[str, str], list[dict[str, Any]]] = {}
        app = web.Application(client_max_size=1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.host = ""
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.host = f"127.0.0.1:{port}"
        self.url = f"{'https' if self._tls else 'http'}://{self.host}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def paths(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen]

    # What it holds

    def put_blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self._blobs[digest] = data
        return digest

    def put_manifest(self, repository: str, content: dict[str, Any] | bytes, *tags: str) -> str:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = OCI_INDEX if b'"manifests"' in data else OCI_MANIFEST
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        for name in (digest, *tags):
            self._manifests[repository, name] = data, kind
        return digest

    def put_image(
        self,
        repository: str,
        *tags: str,
        entrypoint: list[str] | None = None,
        cmd: list[str] | None = None,
        platform: str = "linux/amd64",
        mark: str = "",
    ) -> str:
        os, _, architecture = platform.partition("/")
        config = json.dumps(
            {
                "os": os,
                "architecture": architecture,
                "config": {"Entrypoint": entrypoint, "Cmd": cmd, "Labels": {"mark": mark}},
                "rootfs": {"type": "layers", "diff_ids": []},
            }
        ).encode()
        return self.put_manifest(repository, manifest(self.put_blob(config)), *tags)

    def put_classic_signature(
        self, repository: str, digest: str, *signers: PrivateKey, payload: bytes | None = None
    ) -> str:
        payload = payload or classic_payload(digest, f"{self.host}/{repository}")
        layers = [
            {
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": self.put_blob(payload),
                "size": len(payload),
                "annotations": {"dev.cosignproject.cosign/signature": sign(signer, payload)},
            }
            for signer in signers
        ]
        content = manifest(self.put_blob(EMPTY), layers=layers)
        return self.put_manifest(repository, content, digest.replace(":", "-") + ".sig")

    def put_bundle(
        self,
        repository: str,
        digest: str,
        signer: PrivateKey,
        *,
        predicate_type: str = "https://sigstore.dev/cosign/sign/v1",
        data: bytes | None = None,
        annotate: bool = True,
        signed_digest: str = "",
        artifact_type: str = BUNDLE,
        layer_type: str = BUNDLE,
    ) -> str:
        """Attach a bundle to the digest; it speaks about `signed_digest` if that is another."""
        if data is None:
            data = bundle(signer, statement(signed_digest or digest, predicate_type))
        layer = {"mediaType": layer_type, "digest": self.put_blob(data), "size": len(data)}
        annotations = {"dev.sigstore.bundle.predicateType": predicate_type} if annotate else {}
        return self.attach(
            repository,
            digest,
            manifest(self.put_blob(EMPTY), layers=[layer])
            | {"artifactType": artifact_type, "annotations": annotations},
        )

    def attach(self, repository: str, digest: str, content: dict[str, Any]) -> str:
        content = content | {"subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}}
        referrer = self.put_manifest(repository, content)
        descriptors = self._referrers.setdefault((repository, digest), [])
        descriptors.append(
            {
                "mediaType": OCI_MANIFEST,
                "digest": referrer,
                "size": 1,
                "artifactType": content.get("artifactType", ""),
                "annotations": content.get("annotations", {}),
            }
        )
        if not self.referrers_api:
            self.put_manifest(repository, index(descriptors), digest.replace(":", "-"))
        return referrer

    # What it answers

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(Seen(request.method, request.raw_path, request.headers.get("Authorization")))
        if self.misbehave is not None:
            answer = await self.misbehave(request)
            if answer is not None:
                return answer
        if request.path == "/token":
            return self._token(request)
        refused = self._refusal(request)
        return refused if refused is not None else self._content(request)

    def _content(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v2/")
        for kind in ("/manifests/", "/blobs/", "/referrers/"):
            repository, found, name = path.rpartition(kind)
            if not found:
                continue
            if kind == "/blobs/" and name in self._blobs:
                return web.Response(body=self._blobs[name])
            if kind == "/manifests/" and (repository, name) in self._manifests:
                data, media_type = self._manifests[repository, name]
                digest = "sha256:" + hashlib.sha256(data).hexdigest()
                return web.Response(body=data, content_type=media_type, headers={"Docker-Content-Digest": digest})
            if kind == "/referrers/" and self.referrers_api:
                listed = self._referrers.get((repository, name), [])
                return web.Response(body=json.dumps(index(listed)).encode(), content_type=OCI_INDEX)
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)

    def _refusal(self, request: web.Request) -> web.Response | None:
        authorization = request.headers.get("Authorization", "")
        if self.bearer is not None:
            if authorization == f"Bearer {self.bearer}":
                return None
            scope = f'realm="{self.realm or self.url + "/token"}",service="fake, inc.",scope="repository:any:pull,push"'
            return web.Response(status=401, headers={"WWW-Authenticate": f"Bearer {scope}"})
        if self.basic and not self._is_known(authorization):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="fake"'})
        return None

    def _token(self, request: web.Request) -> web.Response:
        if self.basic and not self._is_known(request.headers.get("Authorization", "")):
            return web.Response(status=401)
        return web.json_response({"token": self.bearer, **self.token_answer})

    def _is_known(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        return scheme == "Basic" and base64.b64decode(encoded).decode() in self.basic


def manifest(config_digest: str, layers: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": 1},
        "layers": layers or [],
    }


def index(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}


def entry(digest: str, platform: str | None = None) -> dict[str, Any]:
    """A descriptor for an index."""
    descriptor: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}
    if platform is not None:
        os, _, architecture = platform.partition("/")
        descriptor["platform"] = {"os": os, "architecture": architecture}
    return descriptor
