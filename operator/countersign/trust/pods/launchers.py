"""Entrypoints that run whatever their arguments name.

Args are a program's data only where the entrypoint is that program. Behind `tini --`, a shell or a bare interpreter
they choose the program, and whoever may write them runs what they like under the image's signature. Known by name: an
image whose own script does the same under another name is for its signer to answer for.
"""

from collections.abc import Sequence
from typing import Final

_WRAPPERS: Final = frozenset(
    [
        "tini",
        "tini-static",
        "docker-init",
        "dumb-init",
        "catatonit",
        "init",
        "s6-svscan",
        "with-contenv",
        "my_init",
        "busybox",
        "toybox",
        "env",
        "nice",
        "ionice",
        "nohup",
        "time",
        "timeout",
        "stdbuf",
        "setsid",
        "setpriv",
        "chroot",
        "unshare",
        "nsenter",
        "taskset",
        "numactl",
        "prlimit",
        "xargs",
        "exec",
        "gosu",
        "su-exec",
        "sudo",
        "doas",
        "runuser",
        "su",
        "chpst",
        "setuser",
        "start-stop-daemon",
        "docker-entrypoint.sh",
        "docker-entrypoint",
        "docker-php-entrypoint",
        "docker-php-entrypoint.sh",
    ]
)
"""Programs whose arguments are a command line. The official images' docker-entrypoint.sh ends in `exec "$@"`."""

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "pwsh"})
_INTERPRETERS: Final = frozenset(
    [
        "python",
        "pypy",
        "node",
        "nodejs",
        "deno",
        "bun",
        "ruby",
        "jruby",
        "perl",
        "php",
        "java",
        "lua",
        "luajit",
        "tclsh",
        "Rscript",
        "R",
        "julia",
        "escript",
        "dotnet",
    ]
)
_NAMES_CODE: Final = frozenset({"-jar", "-m", "-e", "-c", "--eval", "--command", "-Command", "-File"})
"""Flags after which the next word is the program."""
_TAKES_VALUE: Final = frozenset(
    {"-r", "--require", "--import", "--loader", "--experimental-loader", "-W", "-X", "-I", "-L", "-O", "-o"}
    | {"-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules", "--add-opens", "--add-exports"}
)
"""Flags after which the next word is their value."""


def runs_its_arguments(entrypoint: Sequence[str]) -> bool:
    """Whether args appended to the entrypoint choose the program; so, too, where there is no entrypoint at all."""
    words = list(entrypoint)
    while words:
        name = _name(words[0])
        if name in _SHELLS or name in _INTERPRETERS:
            rest = words[2:] if words[1:2] == ["run"] and name in ("deno", "bun") else words[1:]
            return not _names_a_program(rest)
        if name not in _WRAPPERS:
            return False
        # What stands between a wrapper and its command: flags, their values, VAR=value, a user. If something that is
        # not known remains, it is taken for the command.
        words = words[1:]
        while words and (words[0].startswith("-") or "=" in words[0]):
            words = words[1:]
        if name in ("gosu", "su-exec", "chpst", "setuser"):
            words = words[1:]
    return True


def _name(program: str) -> str:
    """File name without version: `/usr/bin/python3.12` is python."""
    return program.rsplit("/", 1)[-1].removesuffix(".exe").rstrip("0123456789.")


def _names_a_program(words: Sequence[str]) -> bool:
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word in _NAMES_CODE:
            return index + 1 < len(words)
        elif word in _TAKES_VALUE:
            skip = True
        elif not word.startswith("-"):
            return True
        elif word.endswith("c") and not word.startswith("--"):
            return index + 1 < len(words)  # a shell's bundled flags, as in `bash -ec`
    return False
