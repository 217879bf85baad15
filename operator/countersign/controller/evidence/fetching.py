"""One attempt to get the content of an EvidenceRoot that does not hold it: from a ConfigMap, or over TUF."""

import asyncio
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from countersign.api.evidence_root import ConfigMapKeyRef, EvidenceRootSpec, EvidenceRootStatus, TUFMetadata, TUFSource
from countersign.cluster.errors import ClusterError
from countersign.signatures.roots.known_roots import read

T = TypeVar("T")


class Attempt(NamedTuple):
    """What came of it. Without content, `reason` and `problem` say why."""

    content: str = ""
    tuf: TUFMetadata = TUFMetadata()
    reason: str = ""
    problem: str = ""
    accepted: bool = True
    """False: what the spec itself says is at fault, and trying again is of no use."""


class ConfigMaps(Protocol):
    """Where ConfigMaps are read (`controller.store.Store`)."""

    async def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        """The texts in it; None: there is none. Raises ClusterError."""


class Fetcher:
    """Reads from ConfigMaps of our namespace and from mirrors."""

    def __init__(self, config_maps: ConfigMaps, namespace: str) -> None:
        self._config_maps = config_maps
        self._namespace = namespace

    async def fetch(self, spec: EvidenceRootSpec, held: EvidenceRootStatus) -> Attempt:
        """`held`: what was fetched before under the same source, or an empty status."""
        given = spec.sigstore
        if given.config_map_ref is not None:
            found = await self._from_config_map(given.config_map_ref)
        elif given.tuf is not None:
            found = await _from_mirror(given.tuf, held)
        else:
            return Attempt()
        if not found.content:
            return found
        problem = read(found.content).facts.problem
        # Verified by TUF or not: what cannot be used must not take the place of what can.
        return found if not problem else found._replace(content="", reason="BadContent", problem=problem)

    async def _from_config_map(self, ref: ConfigMapKeyRef) -> Attempt:
        where = f"ConfigMap {self._namespace}/{ref.name}"
        try:
            data = await self._config_maps.config_map(self._namespace, ref.name)
        except ClusterError as error:
            return Attempt(reason="ConfigMapNotRead", problem=f"{where} cannot be read: {error}")
        if data is None:
            return Attempt(reason="ConfigMapMissing", problem=f"there is no {where}")
        if not data.get(ref.key):
            return Attempt(reason="KeyMissing", problem=f"{where} has no text under the key {ref.key}")
        return Attempt(data[ref.key])


async def _from_mirror(source: TUFSource, held: EvidenceRootStatus) -> Attempt:
    # Only who has such a root needs TUF: it is a large library.
    from countersign.signatures.roots.tuf_mirror import refresh

    stop = threading.Event()
    try:
        found = await in_thread(lambda: refresh(source, held.tuf, held.trusted_root, stop=stop))
    finally:
        stop.set()
    accepted = found.trouble not in {"BadInitialRoot", "BadCABundle"}
    return Attempt(found.content, found.metadata, found.trouble or "", found.problem, accepted)


async def in_thread(work: Callable[[], T]) -> T:
    """The work's result, from a thread of its own that nothing waits for at the end of the process.

    A thread of the loop's executor would be waited for (asyncio.run, shutdown_default_executor), as long as a mirror
    takes to answer.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, raised = None, None
        try:
            result = work()
        except BaseException as error:  # handed to whoever waits
            raised = error
        try:
            loop.call_soon_threadsafe(tell, result, raised)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="evidence-root", daemon=True).start()
    return await done
