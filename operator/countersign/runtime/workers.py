"""Worker processes for work that takes long or may never end: killed at the deadline, and started anew.

A thread would neither be ended nor leave the event loop its time: whatever holds the interpreter holds both. A fork of
a process with threads may inherit a lock that nobody will release. So each worker is an interpreter of its own
(`runtime.worker`), started when the first work comes and ended when there has been none for a while. What it is handed
and what it answers are bytes, never pickles: a worker that was taken over can answer wrongly, and do no more.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from countersign.runtime.worker import LENGTH, MAX_HEAD_BYTES, Answer, Request

DEFAULT_MEMORY_BYTES: Final = 640 * 1024 * 1024
DEFAULT_IDLE_SECONDS: Final = 60.0
MAX_RESULT_BYTES: Final = 4 * 1024 * 1024
MAX_WAITING: Final = 256
_CHUNK: Final = 128 * 1024
"""What is written between two turns of the event loop: it takes the kernel some 30 us to copy."""
_STDERR: Final = 2
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "TMPDIR")

WorkerProblem = Literal["Timeout", "Busy", "Ended", "Failed"]


class WorkerError(Exception):
    """The work was not done.

    `problem` is Timeout (not by the deadline), Busy (too much waits already), Ended (the process died of it, such as
    of a fault in a library, or cannot be started) or Failed (the function raised an error, or memory was too little).
    """

    def __init__(self, problem: WorkerProblem, message: str) -> None:
        """`message` is a phrase for a person."""
        super().__init__(message)
        self.problem: WorkerProblem = problem


class Workers:
    """At most `count` processes. Use it on one event loop, and `close` it."""

    def __init__(
        self,
        count: int,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`memory_bytes` bounds the address space of each process (RLIMIT_AS)."""
        self._memory = memory_bytes
        self._idle_seconds = idle_seconds
        self._max_waiting = max_waiting
        self._waiting = 0
        self._slots = asyncio.Semaphore(count)
        self._idle: list[tuple[_Worker, asyncio.TimerHandle]] = []
        self._ending: set[asyncio.Future[None]] = set()
        self._closed = False

    async def run(self, function: str, *parts: bytes, deadline: float) -> bytes:
        """Call `module:function` with these bytes in a worker; its result. Raises WorkerError.

        `deadline` is loop time, the wait for a free worker included; who waits longest comes first. A worker whose
        caller is cancelled is killed, too.
        """
        if self._closed or self._waiting >= self._max_waiting:
            raise WorkerError("Busy", "too much work waits for a worker process already")
        try:
            async with asyncio.timeout_at(deadline):
                await self._slot()
                try:
                    return await self._run(function, parts, deadline)
                finally:
                    self._slots.release()
        except TimeoutError:
            raise WorkerError("Timeout", "the work was not done by its deadline") from None

    async def close(self) -> None:
        """Kill every process, and wait until they are gone."""
        self._closed = True
        for worker, timer in self._idle:
            timer.cancel()
            self._end(worker)
        self._idle.clear()
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that wait for work."""
        return tuple(worker.pid for worker, _ in self._idle)

    async def _slot(self) -> None:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1

    async def _run(self, function: str, parts: Sequence[bytes], deadline: float) -> bytes:
        try:
            worker = await self._worker()
        except OSError as error:
            raise WorkerError("Ended", f"no worker process can be started ({error.strerror})") from None
        keep = False
        try:
            seconds = max(0.0, deadline - asyncio.get_running_loop().time())
            answer, result = await worker.call(Request(function, seconds, tuple(map(len, parts))), parts)
            keep = not answer.spent
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            raise WorkerError("Ended", f"the worker process ended over it ({str(error)[:120]})") from None
        finally:
            if keep and not self._closed:
                self._keep(worker)
            else:
                self._end(worker)
        if answer.error:
            raise WorkerError("Failed", answer.error)
        return result

    async def _worker(self) -> "_Worker":
        while self._idle:
            worker, timer = self._idle.pop()
            timer.cancel()
            if worker.alive:
                return worker
            self._end(worker)
        starting = asyncio.ensure_future(asyncio.to_thread(_Worker, self._memory))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._remember(asyncio.ensure_future(self._end_started(starting)))
            raise

    async def _end_started(self, starting: "asyncio.Future[_Worker]") -> None:
        self._end(await starting)

    def _keep(self, worker: "_Worker") -> None:
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._end_idle, worker)
        self._idle.append((worker, timer))

    def _end_idle(self, worker: "_Worker") -> None:
        self._idle = [one for one in self._idle if one[0] is not worker]
        self._end(worker)

    def _end(self, worker: "_Worker") -> None:
        worker.kill()
        self._remember(asyncio.ensure_future(asyncio.to_thread(worker.reap)))

    def _remember(self, ending: "asyncio.Future[None]") -> None:
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Worker:
    """One process with the connection to it. Made in a thread: to start a process blocks for some milliseconds."""

    def __init__(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack, theirs:
            stack.callback(ours.close)
            self._process = subprocess.Popen(
                # -P: the folder that it is started in is no place to import from.
                [sys.executable, "-P", "-m", "countersign.runtime.worker", str(memory)],
                stdin=theirs.fileno(),
                stdout=_STDERR,
                # A group of its own, so that what it may have forked dies with it; and none of the service's secrets.
                start_new_session=True,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
            stack.pop_all()
        ours.setblocking(False)
        self._connection = ours

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def call(self, request: Request, parts: Sequence[bytes]) -> tuple[Answer, bytes]:
        """Raises OSError or EOFError if the process ends meanwhile."""
        loop = asyncio.get_running_loop()
        head = msgspec.msgpack.encode(request)
        for data in (LENGTH.pack(len(head)) + head, *parts):
            view = memoryview(data)
            for start in range(0, len(view), _CHUNK):
                await loop.sock_sendall(self._connection, view[start : start + _CHUNK])
                await asyncio.sleep(0)  # sock_sendall does not yield where the kernel takes all at once
        length = LENGTH.unpack(await self._read(LENGTH.size))[0]
        if length > MAX_HEAD_BYTES:
            raise EOFError("it does not keep to the protocol")
        answer = msgspec.msgpack.decode(await self._read(length), type=Answer)
        if not 0 <= answer.length <= MAX_RESULT_BYTES:
            raise EOFError(f"its result is larger than {MAX_RESULT_BYTES} bytes")
        return answer, await self._read(answer.length)

    async def _read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < size:
            more = await loop.sock_recv(self._connection, min(size - len(data), _CHUNK))
            if not more:
                raise EOFError("it said no more")
            data += more
        return bytes(data)

    def kill(self) -> None:
        """Its whole group, at once."""
        self._connection.close()
        if self._process.poll() is None:
            # Not reaped yet, so the number is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def reap(self) -> None:
        self._process.wait()
