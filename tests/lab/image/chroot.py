"""Runs a program of an unpacked image as a container runtime would: its files only, read-only, as its own user.

python chroot.py ROOT FILES PROGRAM ARGS...

Needs root. FILES (divided by colons), and files that arguments name (`--option=/path`), are first copied to the same
path below ROOT. The mounts (ROOT itself, read-only, and its /proc) are in a namespace that ends with the program. The
network is the machine's own. Imports nothing of the project, so that it costs a start-up measurement little.
"""

import ctypes
import os
import shutil
import sys

USER = 65532
# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x20000
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000


def main(root: str, files: str, program: str, *args: str) -> None:
    """Become the program."""
    for path in (*files.split(":"), *(argument.partition("=")[2] for argument in args)):
        if path.startswith("/") and os.path.isfile(path):  # noqa: PTH113 - pathlib would double the start-up time
            target = root + path
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
            shutil.copyfile(path, target)
            os.chmod(target, 0o444)  # noqa: PTH101
    with open(f"{root}/.environment", encoding="utf-8") as file:  # noqa: PTH123
        environment = dict(line.split("=", 1) for line in file.read().splitlines())
    _isolate(root)
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    os.execve(program, [program, *args], environment)  # noqa: S606 - becomes the program, by design


def _isolate(root: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *args: object) -> None:
        if getattr(libc, name)(*args):
            raise OSError(ctypes.get_errno(), f"{name}{args}: {os.strerror(ctypes.get_errno())}")

    here = root.encode()
    call("unshare", _CLONE_NEWNS)
    call("mount", b"none", b"/", None, _REC | _PRIVATE, None)
    call("mount", here, here, None, _BIND, None)
    call("mount", b"proc", here + b"/proc", b"proc", 0, None)
    call("mount", None, here, None, _REMOUNT | _BIND | _RDONLY, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
