"""A worker process: calls functions by name, one at a time, until its service closes the connection.

Started as `python -m countersign.runtime.worker MEMORY` by `workers.Workers`, with a socket as its standard input. A
request is `Request` as MessagePack behind its length (4 bytes, big-endian), then the parts; the answer is `Answer`
likewise, then the result. Nothing is imported here but what a request names: the process starts small.
"""

import contextlib
import importlib
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import msgspec

LENGTH: Final = struct.Struct(">I")
MAX_HEAD_BYTES: Final = 64 * 1024
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of either


class Request(msgspec.Struct, array_like=True):
    """Head of a request."""

    function: str
    """`module:function`; it takes as many bytes objects as there are parts, and returns one."""
    seconds: float
    """After so much CPU time the kernel ends the process, should the service not be there to do it."""
    lengths: tuple[int, ...]
    """Of the parts."""


class Answer(msgspec.Struct, array_like=True):
    """Head of an answer."""

    length: int
    """Of the result."""
    error: str = ""
    """What the function raised; there is no result then."""
    spent: bool = False
    """The process has been so large that it is not worth keeping, and ends."""


def main() -> None:
    """Serve until the connection is closed."""
    connection = socket.socket(fileno=0)
    memory = int(sys.argv[1])
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    while (request := _request(connection)) is not None:
        answer, result = _answer(*request)
        del request
        answer.spent = answer.spent or _peak() > memory // 2
        head = msgspec.msgpack.encode(answer)
        connection.sendall(LENGTH.pack(len(head)) + head)
        connection.sendall(result)
        if answer.spent:
            break


def _peak() -> int:
    """The most memory that the process has taken, in bytes."""
    # What getrusage(2) tells begins with the peak of the process that started this one.
    with contextlib.suppress(OSError), Path("/proc/self/status").open("rb") as status:
        for line in status:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _limit(kind: int, value: int) -> None:
    """At the most so much; what is limited already stays so."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    # macOS refuses some limits. What runs there is a person's own command line.
    with contextlib.suppress(*(() if sys.platform == "linux" else (ValueError, OSError))):
        resource.setrlimit(kind, (value, value))


def _request(connection: socket.socket) -> tuple[Request, list[bytes]] | None:
    length = _read(connection, LENGTH.size)
    if length is None:
        return None
    head = _read(connection, LENGTH.unpack(length)[0])
    if head is None:
        return None
    request = msgspec.msgpack.decode(head, type=Request)
    parts = [_read(connection, size) for size in request.lengths]
    return None if None in parts else (request, cast("list[bytes]", parts))


def _read(connection: socket.socket, size: int) -> bytes | None:
    """So many bytes, or None where the connection ends first."""
    read = bytearray(size)
    view = memoryview(read)
    while view:
        count = connection.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(read)


def _answer(request: Request, parts: list[bytes]) -> tuple[Answer, bytes]:
    limit = int(time.process_time() + request.seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    try:
        result = _function(request.function)(*parts)
    except MemoryError:
        return Answer(0, error="it takes more memory than it may", spent=True), b""
    except Exception as error:
        return Answer(0, error=f"{type(error).__name__}: {error}"[:500]), b""
    return Answer(len(result)), result


def _function(name: str) -> Callable[..., bytes]:
    module, _, function = name.partition(":")
    return cast("Callable[..., bytes]", getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    main()
