"""Work for worker processes (`runtime.workers`): functions that end well, badly, or never."""

import os
import resource
import subprocess
import sys
import time


def reversed_parts(*parts: bytes) -> bytes:
    return b"|".join(part[::-1] for part in parts)


def pid() -> bytes:
    return str(os.getpid()).encode()


def for_ever(note: bytes) -> bytes:
    """Holds the interpreter, and has a child that does likewise; its number is told by the name of a link to `note`."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.link(note, b"%s.%d" % (note, child.pid))  # the process may write no file
    while True:
        pass


def wait_for(path: bytes) -> bytes:
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)
    return pid()


def fails(message: bytes) -> bytes:
    raise ValueError(message.decode())


def eats(size: bytes) -> bytes:
    return str(len(bytearray(int(size)))).encode()


def grows(size: bytes) -> bytes:
    """Keeps so much; its process is then worth no keeping."""
    globals()["_kept"] = b"x" * int(size)
    return pid()


def dies() -> bytes:
    os._exit(3)


def environment() -> bytes:
    return " ".join(sorted(os.environ)).encode()


def descriptors() -> bytes:
    return " ".join(os.listdir("/proc/self/fd")).encode()  # noqa: PTH208


def limits() -> bytes:
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)
    return " ".join(str(resource.getrlimit(kind)[1]) for kind in kinds).encode()


def large() -> bytes:
    return bytes(5 * 1024 * 1024)
