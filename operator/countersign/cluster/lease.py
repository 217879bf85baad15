"""Leader election on a coordination.k8s.io/v1 Lease, as client-go does it, but judged by our own monotonic clock alone.

The holder renews the Lease; another takes it when it has not seen it move for its whole duration. A holder counts its
own time from *before* it sent the last renewal that succeeded, and stops leading RENEW_DEADLINE after that; since
RENEW_DEADLINE < LEASE_DURATION, it has stopped before anybody else may start. What that does not tolerate is clocks
that run at different speeds (by a quarter, with the defaults), not clocks that show different times.

The renewals also make the Lease the cluster's heartbeat: whoever watches it sees `renewTime` move each RENEW_EVERY.

And they tell of a restore: a resourceVersion is a revision of etcd, and one that falls (the reads here are consistent
ones) means that etcd holds an older state than this process has seen, and perhaps acted on.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog

from countersign.api.clock import format_micro
from countersign.api.meta import OwnerReference
from countersign.cluster.client import ApiClient
from countersign.cluster.errors import AlreadyExistsError, ClusterError, ConflictError, ForbiddenError, NotFoundError
from countersign.cluster.resource import LEASES

LEASE_DURATION: Final = 4
"""Whole seconds, as the API wants them. With CHECK_EVERY, a dead holder is replaced in under 5 s."""
RENEW_DEADLINE: Final = 3.0
RENEW_EVERY: Final = 0.8
CHECK_EVERY: Final = 0.4
"""How often a candidate looks. It also looks at the very moment at which the Lease it saw runs out."""
LAST_LOOK_SECONDS: Final = 30.0
"""How long whoever lost the Lease waits for an API server that tells whether etcd was restored meanwhile."""

_log = structlog.get_logger(__name__)


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """LeaseSpec. The times are the writer's own wall clock: for people, never compared."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseMeta(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Object metadata of a Lease."""

    name: str
    namespace: str
    resource_version: str | None = None
    owner_references: tuple[OwnerReference, ...] = ()


class Lease(msgspec.Struct, frozen=True, rename={"api_version": "apiVersion"}):
    """A Lease, as far as an elector reads and writes it."""

    metadata: LeaseMeta
    spec: LeaseSpec = LeaseSpec()
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


class Candidacy:
    """The rules, without I/O or clock: `now` is monotonic seconds, always of the same clock.

    `bid` says what to write, if anything; `won` and `observed` take in what came of it.
    """

    def __init__(
        self, identity: str, *, duration: int = LEASE_DURATION, renew_deadline: float = RENEW_DEADLINE
    ) -> None:
        """Raises ValueError for an empty identity, or if `renew_deadline` leaves no margin before `duration`."""
        if not identity:
            raise ValueError("a candidate needs an identity of its own, such as the name of its pod")
        if not 0 < renew_deadline < duration:
            raise ValueError(f"the renew deadline ({renew_deadline} s) must be shorter than the lease ({duration} s)")
        self.identity = identity
        self.duration = duration
        self.renew_deadline = renew_deadline
        self._seen: LeaseSpec | None = None
        self._seen_version: str | None = None
        self._seen_at = 0.0
        self._held_since: float | None = None

    def leads(self, now: float) -> bool:
        """Whether this candidate may act as the leader at `now`. Certain even if the loop was stalled meanwhile."""
        return now < self.leads_until()

    def leads_until(self) -> float:
        """When leadership ends unless it is renewed; in the past for a candidate that does not hold the Lease."""
        return float("-inf") if self._held_since is None else self._held_since + self.renew_deadline

    def observed(self, spec: LeaseSpec, version: str | None, now: float) -> None:
        """The Lease was read at `now`. Another resourceVersion means that its holder was alive."""
        if version != self._seen_version:
            self._seen, self._seen_version, self._seen_at = spec, version, now
        if spec.holder_identity != self.identity:
            self._held_since = None

    def free_at(self) -> float:
        """When the Lease last observed runs out, if it does not move again; in the past if nobody holds it."""
        if self._seen is None or not self._seen.holder_identity or self._seen.holder_identity == self.identity:
            return float("-inf")
        # At least our own duration: a holder of another version may have written a shorter one than it acts on.
        return self._seen_at + max(self.duration, self._seen.lease_duration_seconds or 0)

    def bid(self, now: float, wall: str) -> LeaseSpec | None:
        """The spec to write at `now`, or None while another holds the Lease."""
        if now < self.free_at():
            return None
        seen = self._seen or LeaseSpec()
        renewing = seen.holder_identity == self.identity
        return LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=self.duration,
            acquire_time=seen.acquire_time if renewing else wall,
            renew_time=wall,
            lease_transitions=(seen.lease_transitions or 0) + (0 if renewing or self._seen is None else 1),
        )

    def won(self, spec: LeaseSpec, version: str | None, asked_at: float, now: float) -> None:
        """`spec` was written, as `version`, by a request sent at `asked_at`."""
        self._seen, self._seen_version, self._seen_at, self._held_since = spec, version, now, asked_at

    def resigned(self, wall: str) -> LeaseSpec:
        """Stop leading now; the spec that tells the others."""
        self._held_since = None
        transitions = self._seen.lease_transitions if self._seen else None
        # One second, as client-go writes it: the API wants a positive duration.
        return LeaseSpec("", 1, wall, wall, transitions)


class LeaseElector:
    """`async with` it: entering waits until this process leads, leaving gives the Lease back.

    `on_lost` is called once, in the loop, when leadership was lost meanwhile; the process should then exit, because
    another may lead already. `on_rewound` is called once, by a candidate as well, when the Lease is older than the one
    that was seen before: what this process knows is then newer than etcd. A restore takes longer than RENEW_DEADLINE,
    so whoever lost the Lease looks once more for that, and leaving waits for it. `is_alive` is asked before each
    renewal: a no loses leadership. Renewal runs in the loop that entered: for one that is busy there is `lease_keeper`.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        on_lost: Callable[[], None],
        on_rewound: Callable[[], None] = lambda: None,
        is_alive: Callable[[], bool] = lambda: True,
        duration: int = LEASE_DURATION,
        renew_deadline: float = RENEW_DEADLINE,
        renew_every: float = RENEW_EVERY,
        check_every: float = CHECK_EVERY,
        owner: OwnerReference | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`identity` must be unique among all candidates, and of this process alone. Raises ValueError.

        `owner`: with this object the garbage collector removes the Lease. Without one, its references stay as they are.
        """
        if not 0 < renew_every < renew_deadline:
            raise ValueError(f"renewing each {renew_every} s cannot meet a deadline of {renew_deadline} s")
        self._candidacy = Candidacy(identity, duration=duration, renew_deadline=renew_deadline)
        self._client = client
        self._namespace = namespace
        self._name = name
        self._on_lost = on_lost
        self._on_rewound = on_rewound
        self._is_alive = is_alive
        self._newest = 0
        self._rewound = False
        self._renew_every = renew_every
        self._check_every = check_every
        self._clock = clock
        self._owners = () if owner is None else (owner,)
        self._stored_owners: tuple[OwnerReference, ...] = ()
        self._version: str | None = None
        self._request_seconds = renew_deadline / 3
        self._leaving = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this process may act as the leader at this moment. Safe to ask from any thread."""
        return self._candidacy.leads(self._clock())

    async def __aenter__(self) -> Self:
        await self._acquire()
        _log.info("leading", lease=self._name, identity=self._candidacy.identity)
        self._renewal = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()  # rather than cancel: a renewal cut in mid-request would leave the version unknown
        if self._renewal is not None:
            await asyncio.wait([self._renewal])
        await self._release()

    async def _acquire(self) -> None:
        while not await self._try():
            wait = self._candidacy.free_at() - self._clock()
            await asyncio.sleep(wait if 0 < wait < self._check_every else self._check_every)

    async def _renew(self) -> None:
        try:
            while not await self._left_within(self._renew_every):
                if not self._is_alive():
                    _log.error("the work stands still: the lease is not renewed", lease=self._name)
                    break
                async with asyncio.timeout(max(0.0, self._candidacy.leads_until() - self._clock())):
                    while not await self._try(renewing=True):
                        if not self.leads or await self._left_within(self._check_every):
                            break
                if not self.leads:
                    break
        except TimeoutError:
            pass
        except Exception:
            _log.exception("lease renewal failed")
        if not self._leaving.is_set():
            _log.error("leadership lost", lease=self._name, identity=self._candidacy.identity)
            self._on_lost()
            await self._look_once_more()

    async def _look_once_more(self) -> None:
        until = self._clock() + LAST_LOOK_SECONDS
        while self._clock() < until:
            try:
                await self._read()
            except ClusterError:
                await asyncio.sleep(self._check_every)
            else:
                return

    async def _left_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            return False
        return True

    async def _try(self, *, renewing: bool = False) -> bool:
        """One attempt to take the Lease, or to keep it. Errors count as a lost attempt."""
        try:
            # The leader writes over what it wrote last; whoever is not sure reads first.
            if self._version is None:
                await self._read()
                if renewing and not self.leads:
                    return False  # somebody else led meanwhile: that is a loss, even if the Lease is free again
            return await self._bid()
        except (ConflictError, AlreadyExistsError):
            self._version = None
        except ForbiddenError as error:
            self._version = None
            # OwnerReferencesPermissionEnforcement: an owner is changed only by whoever may delete the Lease.
            self._owners = ()
            _log.warning("lease request refused", lease=self._name, error=str(error))
        except ClusterError as error:
            # The write may have been carried out: find out before the next.
            self._version = None
            _log.warning("lease request failed", lease=self._name, error=str(error))
        return False

    async def _read(self) -> None:
        within = self._request_seconds
        try:
            lease = await self._client.get(LEASES, self._name, Lease, namespace=self._namespace, within=within)
        except NotFoundError:
            return
        self._version = lease.metadata.resource_version
        self._stored_owners = lease.metadata.owner_references
        self._compare(self._version)
        self._candidacy.observed(lease.spec, self._version, self._clock())

    async def _bid(self) -> bool:
        asked_at = self._clock()
        spec = self._candidacy.bid(asked_at, _wall())
        if spec is None:
            self._version = None
            return False
        lease = self._lease(spec)
        where, within = self._namespace, self._request_seconds
        if self._version is None:
            written = await self._client.create(LEASES, lease, namespace=where, within=within)
        else:
            written = await self._client.replace(LEASES, self._name, lease, namespace=where, within=within)
        self._version = written.metadata.resource_version
        self._compare(self._version)
        self._stored_owners = written.metadata.owner_references
        self._candidacy.won(written.spec, self._version, asked_at, self._clock())
        return True

    def _lease(self, spec: LeaseSpec) -> Lease:
        meta = LeaseMeta(self._name, self._namespace, self._version, self._owners or self._stored_owners)
        return Lease(meta, spec)

    def _compare(self, version: str | None) -> None:
        revision = int(version) if version and version.isdigit() else 0
        if 0 < revision < self._newest and not self._rewound:
            self._rewound = True
            _log.error("etcd went back in time", lease=self._name, seen=self._newest, found=revision)
            self._on_rewound()
        self._newest = max(self._newest, revision)

    async def _release(self) -> None:
        if not self.leads or self._version is None:
            return
        lease = self._lease(self._candidacy.resigned(_wall()))
        try:
            await self._client.replace(
                LEASES, self._name, lease, namespace=self._namespace, within=self._request_seconds
            )
        except ClusterError as error:
            _log.info("lease not released, it will run out", lease=self._name, error=str(error))


def _wall() -> str:
    return format_micro(datetime.now(UTC))
