"""Registries as the person at the keyboard reaches them, asked by the gate's own evidence service."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import structlog
import typer

from countersign.cli.image import docker_config
from countersign.cli.terminal.exits import fail
from countersign.gate.evidence.examiner import Examiner
from countersign.gate.evidence.inquiry import EvidenceSource
from countersign.gate.evidence.roots import Roots
from countersign.gate.evidence.service import EvidenceRequest, EvidenceService, PullSecret
from countersign.registry.addresses import AddressPolicy
from countersign.registry.client import Access, RegistryClient
from countersign.registry.manifest import Descriptor
from countersign.registry.transport import Transport
from countersign.trust.evidence.facts import ImageFacts, Unverifiable
from countersign.trust.images.reference import ImageReference

ANSWER_SECONDS: Final = 30.0
"""For all images of one question. A person waits longer than an API server."""
NOT_ASKED: Final = "the registry was not asked (--offline)"

RegistryCAOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--registry-ca",
        help="PEM file of CAs trusted for registries, besides the system's. Repeatable.",
        envvar="COUNTERSIGN_REGISTRY_CA",
    ),
]
InsecureRegistryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--insecure-registry",
        help="host[:port] of a registry on plain HTTP. Repeatable.",
        envvar="COUNTERSIGN_INSECURE_REGISTRY",
    ),
]
AddressRangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-address-range",
        help="CIDR range that registries may be in although the gate denies it by default, such as 127.0.0.0/8. "
        "Repeatable.",
        envvar="COUNTERSIGN_ALLOW_ADDRESS_RANGE",
    ),
]
DockerConfigOption = Annotated[
    Path | None,
    typer.Option("--docker-config", help="Registry credentials; else $DOCKER_CONFIG/config.json or docker's own."),
]
EvidenceRootOption = Annotated[
    Path | None,
    typer.Option(
        "--evidence-root",
        help="trusted_root.json that counts where no other evidence root is named; else the public-good Sigstore's.",
        envvar="COUNTERSIGN_EVIDENCE_ROOT",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Ask no registry: what it would say stays unknown.")]


class Registries(NamedTuple):
    """How registries are reached."""

    ca_files: Sequence[Path] = ()
    insecure: Sequence[str] = ()
    address_ranges: Sequence[str] = ()
    docker_config: Path | None = None
    offline: bool = False


@asynccontextmanager
async def evidence_source(
    registries: Registries, roots: Roots | None = None, everything: Examiner | None = None
) -> AsyncIterator[EvidenceSource]:
    """The gate's evidence service with the person's credentials; ends the command if an option means nothing.

    `everything`: is shown each candidate, of whatever type.
    """
    if registries.offline:
        yield _Offline()
        return
    try:
        addresses = AddressPolicy(allowed_ranges=registries.address_ranges)
        pem = "\n".join(path.read_text("ascii") for path in registries.ca_files)
        transport = Transport(addresses, insecure_hosts=registries.insecure, extra_ca_pem=pem)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        fail(f"--registry-ca or --allow-address-range cannot be used: {error}")
    path = registries.docker_config or docker_config.default_path()
    with _logs_on_stderr():
        async with transport:
            client = RegistryClient(transport) if everything is None else _Untold(transport)
            credentials = _Credentials(path)
            service = EvidenceService(client, credentials, roots=roots, examiner=everything)
            try:
                yield _Personal(service, credentials)
            finally:
                await service.close()
                await client.close()


class _Untold(RegistryClient):
    """Referrers without what is written beside them, which could spare a look at them."""

    async def referrers(self, image: ImageReference, digest: str, access: Access) -> tuple[Descriptor, ...]:
        """As in RegistryClient."""
        listed = await super().referrers(image, digest, access)
        return tuple(msgspec.structs.replace(one, annotations=None) for one in listed)


class _Credentials:
    """`gate.evidence.service.PullSecrets`: the same for every pod, since it is the person who asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._registries: set[str] = set()
        self._secrets: tuple[PullSecret, ...] = ()

    def prepare(self, registries: Iterable[str]) -> None:
        """Read what there is for these registries, unless that has been done."""
        wanted = set(registries)
        if not wanted <= self._registries:
            self._registries |= wanted
            self._secrets = docker_config.load(self._path, sorted(self._registries))

    async def for_pod(
        self, namespace: str, service_account: str, names: tuple[str, ...], within: float
    ) -> Sequence[PullSecret]:
        """The person's own, whichever pod it is."""
        del namespace, service_account, names, within
        return self._secrets


class _Personal:
    """The evidence service, with the credentials of the person for the registries at hand."""

    def __init__(self, service: EvidenceService, credentials: _Credentials) -> None:
        self._service = service
        self._credentials = credentials

    async def gather(
        self, requests: Iterable[EvidenceRequest], deadline: float
    ) -> Mapping[EvidenceRequest, ImageFacts | Unverifiable]:
        asked = tuple(requests)
        await asyncio.to_thread(self._credentials.prepare, {name for one in asked for name in _registries(one)})
        return await self._service.gather(asked, deadline)


def _registries(request: EvidenceRequest) -> Iterator[str]:
    yield request.reference.registry
    for repository in request.repositories:
        if repository:
            yield ImageReference.parse(repository).registry


class _Offline:
    """Knows nothing, and says so."""

    async def gather(
        self, requests: Iterable[EvidenceRequest], deadline: float
    ) -> Mapping[EvidenceRequest, ImageFacts | Unverifiable]:
        del deadline
        return {one: Unverifiable(str(one.reference), "RegistryUnavailable", NOT_ASKED, True) for one in requests}


@contextmanager
def _logs_on_stderr() -> Iterator[None]:
    """Warnings of the ports in plain words on stderr, off the output; afterwards everything is as it was."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
