"""What an image was built to run, on each platform that a node could choose."""

from typing import Final

from countersign.gate.evidence.together import together
from countersign.registry.client import Access, RegistryClient
from countersign.registry.errors import MalformedError, TooLargeError
from countersign.registry.manifest import Descriptor, Manifest, Platform
from countersign.trust.evidence.facts import PlatformConfig
from countersign.trust.images.reference import ImageReference

MAX_PLATFORMS: Final = 32
"""Runnable platforms of one image. The widest official images have about half as many."""

# Build tools hang attestations into an index under this platform, which no runtime ever asks for.
_NO_PLATFORM: Final = ("unknown", "unknown")


async def find_configs(
    client: RegistryClient, image: ImageReference, digest: str, access: Access
) -> tuple[PlatformConfig, ...]:
    """One config for each runnable platform; for a plain manifest just one. Never empty. Raises RegistryError."""
    top = await client.manifest(image, digest, access)
    if top.kind == "manifest":
        return (await _config(client, image, top, None, access),)
    runnable = [entry for entry in top.manifests if _is_runnable(entry)]
    if not runnable:
        raise MalformedError(f"the index {digest} lists no platform that could run")
    if len(runnable) > MAX_PLATFORMS:
        raise TooLargeError(f"the index {digest} lists {len(runnable)} platforms, more than {MAX_PLATFORMS}")
    return tuple(await together(*(_below(client, image, entry, access) for entry in runnable)))


async def _below(client: RegistryClient, image: ImageReference, entry: Descriptor, access: Access) -> PlatformConfig:
    manifest = await client.manifest(image, entry.digest, access)
    if manifest.kind != "manifest":
        raise MalformedError(f"{entry.digest} is an index inside an index; flatten the image's index")
    return await _config(client, image, manifest, entry.platform, access)


async def _config(
    client: RegistryClient, image: ImageReference, manifest: Manifest, platform: Platform | None, access: Access
) -> PlatformConfig:
    if manifest.config is None:
        raise MalformedError(f"{manifest.digest} has no config")
    config = await client.config(image, manifest.config.digest, access)
    return PlatformConfig(
        platform=str(platform or config.platform),
        digest=manifest.digest,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        config_digest=manifest.config.digest,
        working_dir=config.working_dir,
        path=config.path,
    )


def _is_runnable(entry: Descriptor) -> bool:
    return entry.platform is None or (entry.platform.os, entry.platform.architecture) != _NO_PLATFORM
