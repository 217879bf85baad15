"""The questions that Countersign asks a registry (OCI distribution specification 1.1).

All content is verified by its digest, whoever sends it.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final, TypeVar

import msgspec
from yarl import URL

from countersign.registry.auth import NAMED_REALMS, Authenticator, Send
from countersign.registry.circuits import Circuits
from countersign.registry.courier import Courier, Patience
from countersign.registry.credentials import Credential, scope_of
from countersign.registry.errors import (
    MalformedError,
    NotFoundError,
    RegistryError,
    UnauthorizedError,
)
from countersign.registry.fairness import Share, Traffic
from countersign.registry.manifest import (
    ACCEPTED,
    OCI_INDEX,
    Descriptor,
    ImageConfig,
    Manifest,
    digest_of,
    parse_config,
    parse_manifest,
    verify_digest,
)
from countersign.registry.observer import Observer, RequestKind
from countersign.registry.status import error_for
from countersign.registry.transport import Answer, Transport
from countersign.trust.images.reference import ImageReference, is_digest

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024  # distribution specification, "Pushing Manifests"
MAX_CONFIG_BYTES: Final = 2 * 1024 * 1024
MAX_SIGNATURE_BYTES: Final = 1024 * 1024
MAX_REFERRERS: Final = 1024
"""Descriptors that are listed for one image; how many are examined is the asker's choice."""
MAX_REFERRER_PAGES: Final = 10
HASH_ON_LOOP_BYTES: Final = 256 * 1024
"""Larger content is hashed in a thread: 256 KiB takes about 1 ms where the processor has no instructions for SHA-2."""
PARSE_ON_LOOP_BYTES: Final = 64 * 1024
"""Larger documents are parsed in a thread: 64 KiB takes about 1 ms."""

_API_HOSTS: Final = {"docker.io": "registry-1.docker.io"}
_ACCEPT_MANIFESTS: Final = {"Accept": ", ".join(ACCEPTED)}
_ACCEPT_INDEX: Final = {"Accept": OCI_INDEX}
_NEXT_LINK = re.compile(r'<([^<>"]{1,2000})>[ \t]*;[ \t]*rel="?next"?', re.ASCII)

_T = TypeVar("_T")


class Access:
    """As whom and on whose behalf a registry is asked."""

    __slots__ = ("credentials", "scope", "share")

    def __init__(self, share: Share, credentials: tuple[Credential, ...] = ()) -> None:
        """`credentials`: in the order in which to try them (Keyring.lookup)."""
        self.share = share
        self.credentials = credentials
        self.scope = scope_of(credentials)


class Resolved(msgspec.Struct, frozen=True):
    """What a tag stood for at the one moment when it was asked about."""

    digest: str
    manifest: Manifest | None
    """Present if the registry could only answer with the manifest itself."""


class RegistryClient:
    """All methods raise RegistryError. Deadlines are the caller's (asyncio.timeout); one request has its own bound."""

    def __init__(
        self,
        transport: Transport,
        *,
        traffic: Traffic | None = None,
        token_realms: Mapping[str, Collection[str]] = NAMED_REALMS,
        patience: Patience | None = None,
        observer: Observer | None = None,
    ) -> None:
        """`transport` must be open while the client is used, and is closed by whoever opened it."""
        self._transport = transport
        circuits = Circuits(time.monotonic, observer=observer)
        self._courier = Courier(transport, traffic or Traffic(), circuits, patience=patience, observer=observer)
        self._authenticator = Authenticator(token_realms)

    async def close(self) -> None:
        """End what is in flight."""
        await self._authenticator.close()

    async def resolve(self, image: ImageReference, access: Access) -> Resolved:
        """The digest that the reference's tag stands for now. A digest in the reference is taken as it is.

        A HEAD, which registries do not count against pull limits; a GET where the answer to that holds no digest.
        """
        if image.digest:
            return Resolved(image.digest, None)
        tag = image.tag or ""
        answer = await self._exchange(
            "resolve", image, f"manifests/{tag}", access, accept=_ACCEPT_MANIFESTS, limit=0, method="HEAD"
        )
        digest = answer.headers.get("Docker-Content-Digest", "")
        if answer.status == 200 and is_digest(digest):
            return Resolved(digest, None)
        if answer.status not in (200, 400, 405, 501):
            raise error_for(answer, f"image {image}")
        manifest = await self._manifest(image, tag, access)
        return Resolved(manifest.digest, manifest)

    async def manifest(self, image: ImageReference, digest: str, access: Access) -> Manifest:
        """The manifest or index with this digest, in the image's repository."""
        return await self._manifest(image, digest, access)

    async def tagged_manifest(self, image: ImageReference, tag: str, access: Access) -> Manifest | None:
        """The manifest under another tag of the image's repository; None if there is no such tag."""
        try:
            return await self._manifest(image, tag, access)
        except NotFoundError:
            return None

    async def config(self, image: ImageReference, digest: str, access: Access) -> ImageConfig:
        """The config blob with this digest."""
        data = await self.blob(image, digest, access, limit=MAX_CONFIG_BYTES)
        return await _parsed(data, parse_config)

    async def blob(
        self, image: ImageReference, digest: str, access: Access, *, limit: int = MAX_SIGNATURE_BYTES
    ) -> bytes:
        """The blob with this digest, of at most `limit` bytes."""
        answer = await self._exchange("blob", image, f"blobs/{digest}", access, limit=limit)
        if answer.status != 200:
            raise error_for(answer, f"blob {digest} of {image.name}")
        await _verified(answer.body, digest)
        return answer.body

    async def referrers(self, image: ImageReference, digest: str, access: Access) -> tuple[Descriptor, ...]:
        """Descriptors of the manifests whose subject is this digest, at most MAX_REFERRERS.

        From the referrers API; where the registry has none, from the index under the fallback tag (distribution
        specification, "Referrers Tag Schema"). The list is the registry's word: verify what it points to.
        """
        found: list[Descriptor] = []
        path: str | URL = f"referrers/{digest}"
        for _ in range(MAX_REFERRER_PAGES):
            answer = await self._exchange(
                "referrers", image, path, access, accept=_ACCEPT_INDEX, limit=MAX_MANIFEST_BYTES
            )
            page = await _index_of(answer)
            if page is None:
                return tuple(found) or await self._fallback_referrers(image, digest, access)
            found += page
            next_page = _next_page(answer, self._base_url(image))
            if next_page is None or len(found) >= MAX_REFERRERS:
                break
            path = next_page
        # A registry with the API may hold an image that was copied from one without, and with it the tag.
        return tuple(found[:MAX_REFERRERS]) or await self._fallback_referrers(image, digest, access)

    async def _fallback_referrers(self, image: ImageReference, digest: str, access: Access) -> tuple[Descriptor, ...]:
        index = await self.tagged_manifest(image, referrers_tag(digest), access)
        return index.manifests[:MAX_REFERRERS] if index is not None and index.kind == "index" else ()

    async def _manifest(self, image: ImageReference, tag_or_digest: str, access: Access) -> Manifest:
        path = f"manifests/{tag_or_digest}"
        answer = await self._exchange(
            "manifest", image, path, access, accept=_ACCEPT_MANIFESTS, limit=MAX_MANIFEST_BYTES
        )
        if answer.status != 200:
            raise error_for(answer, f"manifest {tag_or_digest} in {image.name}")
        claimed = answer.headers.get("Docker-Content-Digest", "")
        if is_digest(claimed):
            await _verified(answer.body, claimed)
        if is_digest(tag_or_digest):
            if claimed != tag_or_digest:
                await _verified(answer.body, tag_or_digest)
            digest = tag_or_digest
        else:
            digest = claimed if is_digest(claimed) else digest_of(answer.body)
        return await _parsed(answer.body, partial(parse_manifest, digest=digest))

    async def _exchange(
        self,
        kind: RequestKind,
        image: ImageReference,
        path: str | URL,
        access: Access,
        *,
        limit: int,
        accept: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> Answer:
        """One request, authenticated as the registry asks for. A 401 that remains is UnauthorizedError."""
        base = self._base_url(image)
        url = path if isinstance(path, URL) else URL(f"{base}/v2/{image.repository}/{path}", encoded=True)
        send = self._sender(access.share, access.scope, kind)
        answer = await self._authenticated(partial(send, method, url, limit=limit, headers=accept), base, image, access)
        if answer.status == 429:
            raise error_for(answer, image.name)
        return answer

    def _base_url(self, image: ImageReference) -> URL:
        return self._transport.base_url(_API_HOSTS.get(image.registry, image.registry))

    async def _authenticated(
        self, request: Callable[..., Awaitable[Answer]], base: URL, image: ImageReference, access: Access
    ) -> Answer:
        repository, sender = image.repository, partial(self._sender, scope=access.scope)
        key = (str(base), repository, access.scope)
        answer = await request(authorization=await self._remembered_header(key, access))
        if answer.status != 401:
            return answer
        self._authenticator.reject(key)
        refusal: RegistryError = error_for(answer, repository)
        challenges = answer.headers.getall("WWW-Authenticate", [])
        missing: Answer | None = None
        ways = self._authenticator.ways(base, repository, challenges, access.credentials)
        for way in ways:
            try:
                answer = await request(authorization=await self._authenticator.header(way, sender, access.share))
            except UnauthorizedError as error:
                refusal = error
                continue
            if answer.status == 404 and len(ways) > 1:
                # To an account that may not see it, many a registry says that the repository is not there. The
                # kubelet tries its next credential after any failure (pkg/kubelet/kuberuntime/kuberuntime_image.go).
                # Which of them sees the repository is remembered only once it has shown something.
                missing = missing or answer
                continue
            if answer.status not in (401, 403):
                self._authenticator.remember(key, way)
                return answer
            self._authenticator.forget_token(way)
            refusal = error_for(answer, repository)
        if missing is not None:
            return missing
        raise refusal

    async def _remembered_header(self, key: tuple[str, str, str], access: Access) -> str | None:
        way = self._authenticator.remembered(key)
        if way is None:
            return None
        try:
            sender = partial(self._sender, scope=access.scope)
            return await self._authenticator.header(way, sender, access.share)
        except UnauthorizedError:
            self._authenticator.reject(key)
            return None

    def _sender(self, share: Share, scope: str, kind: RequestKind = "token") -> Send:
        return partial(self._courier.send, kind, share=share, scope=scope)


def referrers_tag(digest: str) -> str:
    """The fallback tag under which referrers of this digest are listed ("Referrers Tag Schema": both parts cut)."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


async def _index_of(answer: Answer) -> tuple[Descriptor, ...] | None:
    """The descriptors in an answer of the referrers API; None if the registry has no such API."""
    if answer.status in (401, 403) or (answer.status >= 500 and answer.status != 501):
        raise error_for(answer, "referrers")
    if answer.status != 200 or not answer.headers.get("Content-Type", "").startswith(OCI_INDEX):
        return None
    try:
        index = await _parsed(answer.body, partial(parse_manifest, digest=digest_of(answer.body)))
    except MalformedError:
        return None
    return index.manifests if index.kind == "index" else None


def _next_page(answer: Answer, base: URL) -> URL | None:
    """The rest of a list (RFC 8288), if it is at the registry itself: the next request carries its credentials."""
    match = _NEXT_LINK.search(answer.headers.get("Link", ""))
    if match is None:
        return None
    try:
        target = answer.url.join(URL(match[1], encoded=True))
    except ValueError:
        return None
    return target if target.origin() == base.origin() else None


async def _verified(data: bytes, digest: str) -> None:
    if len(data) <= HASH_ON_LOOP_BYTES:
        verify_digest(data, digest)
    else:
        await asyncio.to_thread(verify_digest, data, digest)


async def _parsed(data: bytes, parse: Callable[[bytes], _T]) -> _T:
    if len(data) <= PARSE_ON_LOOP_BYTES:
        return parse(data)
    return await asyncio.to_thread(parse, data)
