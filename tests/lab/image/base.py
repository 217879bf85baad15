"""The base layer: Debian's Python and what it loads, unpacked, trimmed and compiled. The twin of distroless python3."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.lab.image import debian
from tests.lab.image.bytecode import compile_below
from tests.lab.image.debian import Package
from tests.lab.image.errors import ImageError, run
from tests.lab.image.layer import Component, Layer, cached
from tests.lab.programs import cache_dir

_STDLIB: Final = "usr/lib/python3.11"

_DROPPED: Final = (
    # Of the packages: documentation, settings of their install scripts, programs that want a shell.
    *("usr/share/man", "usr/share/lintian", "usr/share/binfmts", "usr/share/locale", "usr/share/base-files"),
    *("usr/share/common-licenses", "usr/share/dict", "usr/share/info", "usr/share/misc", "usr/share/applications"),
    *("usr/share/pixmaps", "usr/share/python3", "usr/sbin", "etc/ca-certificates", "etc/update-motd.d", "etc/issue*"),
    *("etc/motd", "etc/profile.d", "etc/host.conf", "etc/python3.11", "var", "home", "root", "boot", "mnt", "srv"),
    *("media", "opt", "run", "proc", "sys", "dev", "bin", "sbin", "etc/default", "etc/dpkg", "etc/skel", "etc/opt"),
    *("usr/games", "usr/include", "usr/local", "usr/src", "usr/share/gcc", "usr/share/gdb"),
    # Of libc: character sets of iconv (Python has its own), debuggers' helpers, name services that nothing here asks.
    *("usr/lib/*/gconv", "lib/*/libmvec.so*", "lib/*/libthread_db.so*", "lib/*/libc_malloc_debug.so*"),
    *("lib/*/libmemusage.so", "lib/*/libpcprofile.so", "lib/*/libnsl.so*", "lib/*/libnss_hesiod*"),
    *("lib/*/libnss_compat*", "lib/*/libBrokenLocale*", "lib/*/libanl.so*"),
    # Of OpenSSL: engines, and the provider of retired ciphers.
    *("usr/lib/*/engines-3", "usr/lib/*/ossl-modules", "usr/lib/*/libexpatw*"),
    # Of Python: tests, and what needs a terminal, a display, a compiler, an installer or a library that is not here.
    *(
        f"{_STDLIB}/{name}"
        for name in (
            *("test", "unittest/test", "ctypes/test", "pydoc_data", "idlelib", "lib2to3", "ensurepip", "venv"),
            *("curses", "tkinter", "turtle.py", "turtledemo", "sqlite3", "dbm", "__phello__", "config-3.11*"),
            *("lib-dynload/_ctypes_test*", "lib-dynload/_test*", "lib-dynload/_xx*", "lib-dynload/xx*"),
            *("lib-dynload/_curses*", "lib-dynload/_dbm*", "lib-dynload/_sqlite3*", "lib-dynload/nis*"),
            *(
                "sitecustomize.py",
                "lib-dynload/readline*",
                "lib-dynload/ossaudiodev*",
                "lib-dynload/audioop*",
                "lib-dynload/_lsprof*",
            ),
        )
    ),
)

_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}


def base_layer() -> Layer:
    """From the cache, or built. Raises ImageError."""
    packages = debian.resolve()
    described = [f"{package.name} {package.version} {package.sha256}" for package in packages]
    recipe = [Path(__file__).read_text(), Path(debian.__file__).with_name("bytecode.py").read_text()]
    return cached("base", [*described, *recipe], lambda root: _fill(root, packages))


def _fill(root: Path, packages: Sequence[Package]) -> list[Component]:
    files = debian.download(packages, cache_dir() / "image" / "debs")
    components = []
    for package, file in zip(packages, files, strict=True):
        run("dpkg-deb", "-x", file, root, doing=f"unpack {package.file}")
        components.append(Component(package.name, package.version, package.purl, package.sha256))
    _trim(root)
    _certificates(root)
    for package, file in zip(packages, files, strict=True):
        # Where distroless images have it: scanners find the packages without a dpkg database.
        status = root / "var/lib/dpkg/status.d" / package.name
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(run("dpkg-deb", "-f", file, doing=f"read {package.file}"))
    for name, text in _FILES.items():
        (root / name).write_text(text)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "usr/bin/python3").symlink_to("python3.11")
    compile_below(root, _STDLIB, base=root)
    return components


def _trim(root: Path) -> None:
    for pattern in _DROPPED:
        for path in root.glob(pattern):
            _remove(path)
    for path in root.glob("usr/share/doc/*/*"):
        if path.name != "copyright":
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _certificates(root: Path) -> None:
    """The bundle that ca-certificates' install script would write: every certificate, in the order of names."""
    source = root / "usr/share/ca-certificates"
    found = sorted(source.rglob("*.crt"))
    if not found:
        raise ImageError("ca-certificates holds no certificates: has the package changed?")
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(file.read_text().rstrip("\n") + "\n" for file in found))
    shutil.rmtree(source)
