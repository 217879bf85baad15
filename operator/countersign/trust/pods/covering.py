"""Mounts that put other programs in the place of the image's own.

The signed command line says little once a ConfigMap is mounted over the script that it names.
"""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from countersign.api.pod import Container
from countersign.trust.evidence.facts import PlatformConfig

PROGRAM_FOLDERS: Final = (
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/etc/ld.so.preload",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
)
"""Where programs, libraries and the loader's orders lie (Filesystem Hierarchy Standard 3.0; ld.so(8))."""

_INSIDE: Final = tuple(folder + "/" for folder in PROGRAM_FOLDERS)
_ABOVE: Final = frozenset(
    {"/"} | {"/".join(parts[:depth]) for f in PROGRAM_FOLDERS for parts in [f.split("/")] for depth in range(2, 9)}
)
"""The folders themselves and all above them."""


def covering_mounts(
    container: Container, command_lines: Iterable[tuple[str, ...]], config: PlatformConfig
) -> Iterator[str]:
    """A phrase for each mount that covers a file which one of the command lines names, or a folder of programs.

    A relative name means a file in the working directory or, as the program of a line, in the image's PATH. A working
    directory that the pod moves into a mount counts whatever the line says.
    """
    if not container.volume_mounts:
        return
    working_dir = normal_path(container.working_dir) if container.working_dir else ""
    folder = working_dir or normal_path(config.working_dir)
    named = {path for words in command_lines for path in _files(words, folder, config.path)}
    for mount in container.volume_mounts:
        path = normal_path(mount.mount_path)
        if path in _ABOVE or path.startswith(_INSIDE):
            yield f"a mount at {path}, among programs and libraries"
        elif any(within(word, path) for word in named):
            yield f"a mount at {path} over what the command line names"
        elif working_dir and within(working_dir, path):
            yield f"the working directory {working_dir} inside the mount at {path}"


def _files(words: tuple[str, ...], folder: str, search: tuple[str, ...]) -> Iterator[str]:
    """The files that a command line may mean."""
    for index, word in enumerate(words):
        if word.startswith("-"):
            continue
        if index or "/" in word:
            yield normal_path(posixpath.join(folder, word))
        if "/" not in word:
            yield from (normal_path(posixpath.join(folder, place, word)) for place in search)


def normal_path(path: str) -> str:
    """The absolute path, without empty and dotted parts, as the runtime mounts it."""
    if path.startswith("/") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    return posixpath.normpath("/" + path.lstrip("/"))


def within(path: str, folder: str) -> bool:
    """Whether a normal path is the folder or lies in it."""
    return path == folder or path.startswith(folder + "/") or folder == "/"
