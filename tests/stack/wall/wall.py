"""The wall: answers the kernel's questions about where a process may speak to, and remembers what it refused."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import select
import socket
import struct
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.stack.wall.kernel import CONTINUE, NOTIFICATION, RECEIVE, RESPONSE, SEND, machine

_POLL_SECONDS: Final = 0.2
_MAX_ADDRESS: Final = 128
_MESSAGE_BYTES: Final = 64
"""struct mmsghdr on 64-bit machines; it begins with the message's name and the name's length."""


class Wall:
    """Whoever starts by `program` may speak to `allowed` addresses, and to nobody else. A context manager."""

    def __init__(self, folder: Path, program: tuple[str, ...]) -> None:
        """`folder`: for the socket; its path must be short (107 bytes)."""
        self.allowed: set[str] = set()
        """`host:port`, hosts as numbers."""
        self.refused: list[str] = []
        """Where processes wanted to speak to, and were refused, in order."""
        self.guarded = 0
        """Processes that went behind it."""
        path = folder / "wall.socket"
        self.program = (sys.executable, str(Path(__file__).with_name("walled.py")), str(path), *program)
        self._here = machine()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _run(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._server], [], [], _POLL_SECONDS)[0]:
                continue
            connection, _ = self._server.accept()
            with connection:
                _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
                self.guarded += 1
                self._run(self._guard, descriptors[0])
                connection.send(b"w")

    def _guard(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        try:
            while not self._closing.is_set():
                for _, events in poll.poll(_POLL_SECONDS * 1000):
                    if not events & select.POLLIN:
                        return  # nobody is behind the wall any more
                    self._answer(descriptor)
        finally:
            os.close(descriptor)

    def _answer(self, descriptor: int) -> None:
        asked = bytearray(NOTIFICATION.size)
        # ENOENT: who asked is dead.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fcntl.ioctl(descriptor, RECEIVE, asked)
            number, pid, _, call, _, _, *arguments = NOTIFICATION.unpack(asked)
            wanted = self._wanted(pid, call, arguments)
            refused = [one for one in wanted if one not in self.allowed]
            self.refused += refused
            error, flags = (-errno.ECONNREFUSED, 0) if refused else (0, CONTINUE)
            fcntl.ioctl(descriptor, SEND, RESPONSE.pack(number, 0, error, flags))

    def _wanted(self, pid: int, call: int, arguments: list[int]) -> list[str]:
        """The internet addresses of one call. What cannot be read counts as one that nobody allowed."""
        here = self._here
        assert here is not None
        places: list[tuple[int, int]] = []
        try:
            if call == here.connect:
                places = [(arguments[1], arguments[2])]
            elif call == here.sendto:
                places = [(arguments[4], arguments[5])]
            else:
                count = arguments[2] if call == here.sendmmsg else 1
                for index in range(min(count, 1024)):
                    name, length = struct.unpack("=QI", _memory(pid, arguments[1] + index * _MESSAGE_BYTES, 12))
                    places += [(name, length)] if name else []
            found = [_address(_memory(pid, where, min(length & 0xFFFFFFFF, _MAX_ADDRESS))) for where, length in places]
        except OSError as error:
            return [f"unreadable: {error}"]
        return [one for one in found if one]


def _memory(pid: int, where: int, length: int) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(where)
        return memory.read(length) or b""


def _address(raw: bytes) -> str:
    """`host:port` of a struct sockaddr; empty for what is not of the internet (Unix sockets, netlink)."""
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == socket.AF_INET:
        return f"{ipaddress.IPv4Address(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == socket.AF_INET6:
        host = ipaddress.IPv6Address(raw[8:24])
        return f"{host.ipv4_mapped or host}:{int.from_bytes(raw[2:4], 'big')}"
    return ""
