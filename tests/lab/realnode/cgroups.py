"""The sandbox's own cgroup in each hierarchy of the machine, for cgroup v1 and v2.

The sandbox's cgroup namespace has it as its root (cgroup_namespaces(7)), so that kubelet and runc need to know nothing
of it, and what they leave can be removed without looking at what others own.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
PARENT = "countersign-lab"
_LEAF = "init"


def is_v2(mount: Path = MOUNT) -> bool:
    """Whether the machine has the unified hierarchy only."""
    return (mount / "cgroup.controllers").exists()


def hierarchies(mount: Path = MOUNT) -> list[Path]:
    """The root folders of all hierarchies."""
    if is_v2(mount):
        return [mount]
    return sorted(path for path in mount.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists())


def join_script() -> str:
    """A shell script that moves its shell, inside the sandbox, to the sandbox's cgroups, and becomes its arguments."""
    folders = [MOUNT / _LEAF] if is_v2() else hierarchies()
    moves = "; ".join(f"echo 0 > {folder}/cgroup.procs" for folder in folders)
    return f'{moves}; exec "$@"'


def enter(name: str, mount: Path = MOUNT) -> None:
    """Make the cgroup `name` in each hierarchy, and move this process into it."""
    for root in hierarchies(mount):
        folder = root / PARENT / name
        for path in (folder.parent, folder):
            path.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # cpuset(7): empty at first, and then nobody may enter
                own, above = path / setting, path.parent / setting
                if own.exists() and above.exists() and not is_v2(mount):
                    own.write_text(above.read_text())
        if is_v2(mount):
            _delegate(root, folder)
            folder = folder / _LEAF  # a cgroup with processes of its own can have no children with controllers
            folder.mkdir(exist_ok=True)
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def _delegate(root: Path, folder: Path) -> None:
    controllers = (root / "cgroup.controllers").read_text().split()
    for path in (root, folder.parent, folder):
        for controller in controllers:
            with contextlib.suppress(OSError):  # one that the machine keeps to itself
                (path / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(name: str, mount: Path = MOUNT) -> bool:
    """Remove the cgroup and all below it. False if processes are left in it."""
    gone = [_remove(root / PARENT / name) for root in hierarchies(mount)]
    return all(gone)


def names() -> set[str]:
    """All cgroups that sandboxes have made and not removed."""
    return {
        path.name
        for root in hierarchies()
        if (root / PARENT).is_dir()
        for path in (root / PARENT).iterdir()
        if path.is_dir()
    }


def remove_parent() -> None:
    """Remove the folder of all sandboxes, if it is empty."""
    for root in hierarchies():
        with contextlib.suppress(OSError):
            (root / PARENT).rmdir()


def _remove(folder: Path) -> bool:
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
