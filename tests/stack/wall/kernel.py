"""seccomp, as far as a wall needs it: the filter, and the kernel's own shapes (linux/seccomp.h, linux/filter.h)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final, NamedTuple


class Machine(NamedTuple):
    """Numbers that differ between architectures (linux/audit.h, asm/unistd.h)."""

    arch: int
    seccomp: int
    connect: int
    sendto: int
    sendmsg: int
    sendmmsg: int


_MACHINES: Final = {
    "x86_64": Machine(0xC000003E, 317, 42, 44, 46, 307),
    "aarch64": Machine(0xC00000B7, 277, 203, 206, 211, 269),
}
_IO_URING_SETUP: Final = 425
_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06

NOTIFICATION: Final = struct.Struct("=QII iIQ6Q")
"""struct seccomp_notif: id, pid, flags; nr, arch, instruction pointer, six arguments."""
RESPONSE: Final = struct.Struct("=QqiI")
"""struct seccomp_notif_resp: id, value, error, flags."""
RECEIVE: Final = (3 << 30) | (NOTIFICATION.size << 16) | (ord("!") << 8) | 0
SEND: Final = (3 << 30) | (RESPONSE.size << 16) | (ord("!") << 8) | 1
CONTINUE: Final = 1


def machine() -> Machine | None:
    """This machine's numbers; None: no wall can be built here."""
    return _MACHINES.get(platform.machine()) if sys.platform == "linux" else None


def raise_wall() -> int:
    """Put this thread, and whatever it becomes or starts, behind a wall; the descriptor to answer its questions by.

    Asked is about connect, sendto with an address, sendmsg and sendmmsg; io_uring, which would go around all of them,
    is not there. Raises OSError.
    """
    here = machine()
    if here is None:
        raise OSError(errno.ENOSYS, "no wall on this machine")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    code = _program(here)
    instructions = ctypes.create_string_buffer(code)
    # struct sock_fprog: the number of instructions, and where they are.
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    descriptor: int = libc.syscall(here.seccomp, _SET_MODE_FILTER, _NEW_LISTENER, program)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


def _program(here: Machine) -> bytes:
    allow, notify, refuse = 12, 13, 14

    def step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, true, false, value)

    def jump(at: int, value: int, *, true: int, false: int) -> bytes:
        return step(_JUMP_EQUAL, value, true - at - 1, false - at - 1)

    # Offsets into struct seccomp_data: nr 0, arch 4, the halves of argument 4 at 48 and 52.
    return b"".join(
        (
            step(_LOAD, 4),
            jump(1, here.arch, true=2, false=refuse),
            step(_LOAD, 0),
            jump(3, here.connect, true=notify, false=4),
            jump(4, here.sendmsg, true=notify, false=5),
            jump(5, here.sendmmsg, true=notify, false=6),
            jump(6, _IO_URING_SETUP, true=refuse, false=7),
            jump(7, here.sendto, true=8, false=allow),
            step(_LOAD, 48),
            jump(9, 0, true=10, false=notify),
            step(_LOAD, 52),
            jump(11, 0, true=allow, false=notify),
            step(_RETURN, _ALLOW),
            step(_RETURN, _NOTIFY),
            step(_RETURN, _ERRNO | errno.ENOSYS),
        )
    )
