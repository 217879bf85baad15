"""A LeaseElector in a thread and an event loop of its own, so that a loop which is busy does not lose the Lease.

What reads ten thousand pods keeps its loop busy for seconds in small pieces, and a renewal takes several turns of the
loop. client-go renews in a goroutine of its own for the same reason (tools/leaderelection, `RunOrDie`). What that must
not hide is a loop that stands still, since then nobody would do the work: the keeper renews only for as long as the
loop that entered it gives a sign of life (client-go leaves that to a HealthzAdaptor and the kubelet).
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self

BEAT_SECONDS: Final = 0.5
"""How often the loop gives a sign of life."""
STALL_SECONDS: Final = 10.0
"""A loop that gives none for so long loses the Lease: another process leads within LEASE_DURATION of that."""


class Elector(Protocol):
    """What is entered when this process leads, and left to give the Lease back (`LeaseElector`)."""

    @property
    def leads(self) -> bool:
        """Whether this process may act as the leader at this moment. Asked from any thread."""


Campaign = Callable[[Callable[[], bool], Callable[[], None], Callable[[], None]], AbstractAsyncContextManager[Elector]]
"""Makes an elector, in the keeper's loop, of LeaseElector's `is_alive`, `on_lost` and `on_rewound`."""


class LeaseKeeper:
    """`async with` it: entering waits until this process leads, leaving gives the Lease back.

    `on_lost` and `on_rewound` are called in the loop that entered, as LeaseElector says.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        on_lost: Callable[[], None],
        on_rewound: Callable[[], None],
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """`campaign`: entered in the keeper's thread, so whatever client it uses is made there."""
        self._campaign = campaign
        self._on_lost = on_lost
        self._on_rewound = on_rewound
        self._stall_seconds = stall_seconds
        self._elector: Elector | None = None
        self._entered = False
        self._beat = time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this process may act as the leader at this moment. Safe to ask from any thread."""
        return self._elector is not None and self._elector.leads

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._elected: asyncio.Future[Elector] = self._loop.create_future()
        # Made here, so that it can be told to end whether or not its thread has begun.
        self._own_loop = asyncio.new_event_loop()
        self._left = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._beating = asyncio.create_task(self._live())
        self._thread.start()
        try:
            self._elector = await self._elected
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _live(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)

    async def _end(self) -> None:
        self._beating.cancel()
        if not self._own_loop.is_closed():
            self._own_loop.call_soon_threadsafe(self._left.set)
        await asyncio.to_thread(self._thread.join)
        self._own_loop.close()

    # In the thread

    def _run(self) -> None:
        try:
            asyncio.set_event_loop(self._own_loop)
            self._own_loop.run_until_complete(self._keep())
        except Exception as error:
            self._call(self._failed, error)

    async def _keep(self) -> None:
        campaign = asyncio.create_task(self._run_campaign())
        leaving = asyncio.create_task(self._left.wait())
        await asyncio.wait([campaign, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not self._entered:
            campaign.cancel()
        with suppress(asyncio.CancelledError):
            await campaign

    async def _run_campaign(self) -> None:
        lost, rewound = partial(self._call, self._on_lost), partial(self._call, self._on_rewound)
        async with self._campaign(self._is_alive, lost, rewound) as elector:
            self._entered = True
            self._call(self._won, elector)
            await self._left.wait()

    def _is_alive(self) -> bool:
        return time.monotonic() - self._beat < self._stall_seconds

    def _call(self, what: Callable[..., None], *args: object) -> None:
        self._loop.call_soon_threadsafe(what, *args)

    # In the loop that entered

    def _won(self, elector: Elector) -> None:
        if not self._elected.done():
            self._elected.set_result(elector)

    def _failed(self, error: Exception) -> None:
        if self._elected.done():
            self._on_lost()
        else:
            self._elected.set_exception(error)
