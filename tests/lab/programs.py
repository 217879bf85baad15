"""The programs of the lab: which module pins each, and where its binary lies in the cache."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

GO_MODULES = Path(__file__).parent / "go"
KUBERNETES_VERSION = "v1.36.3"

_KUBERNETES_LDFLAGS = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
_PLAIN_LDFLAGS = "-s -w"
# Snapshotters that want headers of the machine's, and that no node of the lab uses.
_CONTAINERD_TAGS = "no_btrfs,no_zfs,no_devmapper"
# Checks of rules want no service discovery, which would bring the clients of twenty clouds.
_PROMTOOL_TAGS = "remove_all_sd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
OWN_MODULES = "lab.countersign.dev"


@dataclass(frozen=True)
class Program:
    """One Go program. `module` is a folder of `modules`, `package` the import path.

    `typical_seconds` is the wall time measured on two cores with an empty build cache, in the order of `PROGRAMS`
    (a later program reuses what an earlier one compiled). It serves as an expectation in the progress display only.
    """

    name: str
    module: str
    package: str
    ldflags: str
    typical_seconds: int
    modules: Path = GO_MODULES
    tags: str = ""

    @property
    def module_dir(self) -> Path:
        """The folder with the go.mod that pins this program."""
        return self.modules / self.module

    @property
    def build_args(self) -> tuple[str, ...]:
        """The flags of `go build`, without output and package."""
        tags = ("-tags", self.tags) if self.tags else ()
        return ("-trimpath", "-ldflags", self.ldflags, *tags)

    @functools.cached_property
    def key(self) -> str:
        """Hash of all that decides what the binary is: pins, checksums, package, flags, platform."""
        digest = hashlib.sha256()
        own = sorted(self.module_dir.glob("*.go")) if self.package.startswith(OWN_MODULES) else []
        for pin in (self.module_dir / "go.mod", self.module_dir / "go.sum", *own):
            digest.update(hashlib.sha256(pin.read_bytes()).digest())
        digest.update("\0".join((self.package, *self.build_args, "CGO_ENABLED=0", *go_platform())).encode())
        return digest.hexdigest()[:16]


# The dearest first: what comes later reuses its packages, and an interrupted first run has the most behind it.
PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES_LDFLAGS, 285),
        Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", _PLAIN_LDFLAGS, 13),
        Program(
            "kube-controller-manager",
            "kubernetes",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            _KUBERNETES_LDFLAGS,
            75,
        ),
        Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", _KUBERNETES_LDFLAGS, 27),
        Program("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", _KUBERNETES_LDFLAGS, 5),
        Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", _KUBERNETES_LDFLAGS, 3),
        Program("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", _KUBERNETES_LDFLAGS, 15),
        Program("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry", _PLAIN_LDFLAGS, 99),
        Program("olareg", "registry", "github.com/olareg/olareg/cmd/olareg", _PLAIN_LDFLAGS, 2),
        Program("cosign", "registry", "github.com/sigstore/cosign/v3/cmd/cosign", _PLAIN_LDFLAGS, 167),
        *(
            Program(name, "sigstore", package, _PLAIN_LDFLAGS, seconds)
            for name, package, seconds in (
                ("fulcio", "github.com/sigstore/fulcio", 24),
                ("timestamp-server", f"{OWN_MODULES}/sigstore", 5),
                ("rekor-server", "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix", 4),
            )
        ),
        *(
            Program(name, "containerd", f"{_CONTAINERD}/{name}", _PLAIN_LDFLAGS, seconds, tags=_CONTAINERD_TAGS)
            for name, seconds in (("containerd", 61), ("containerd-shim-runc-v2", 1), ("ctr", 3))
        ),
        *(
            Program(name, "cni", f"{_CNI}/{folder}/{name}", _PLAIN_LDFLAGS, seconds)
            for folder, name, seconds in (("main", "bridge", 3), ("main", "loopback", 1), ("ipam", "host-local", 1))
        ),
        Program("traefik", "traefik", "github.com/traefik/traefik/v3/cmd/traefik", _PLAIN_LDFLAGS, 150),
        Program("pause", "pause", f"{OWN_MODULES}/pause", _PLAIN_LDFLAGS, 2),
        Program("workload", "workload", f"{OWN_MODULES}/workload", _PLAIN_LDFLAGS, 2),
        Program("collector", "telemetry", f"{OWN_MODULES}/telemetry", _PLAIN_LDFLAGS, 15),
        Program("promql", "prometheus", f"{OWN_MODULES}/prometheus", _PLAIN_LDFLAGS, 30),
        Program(
            "promtool",
            "prometheus",
            "github.com/prometheus/prometheus/cmd/promtool",
            _PLAIN_LDFLAGS,
            130,
            tags=_PROMTOOL_TAGS,
        ),
    )
}

GROUPS: dict[str, tuple[str, ...]] = {
    "control-plane": ("kube-apiserver", "etcd", "kube-controller-manager", "kubectl"),
    "registries": ("registry", "olareg"),
    "cosign": ("cosign",),
    "sigstore": ("fulcio", "timestamp-server", "rekor-server"),
    "workload": ("workload",),
    "telemetry": ("collector",),
    "prometheus": ("promql", "promtool"),
    "traefik": ("traefik",),
    "node": (
        *("kube-scheduler", "kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr"),
        *("bridge", "loopback", "host-local", "pause"),
    ),
}

ON_DEMAND = frozenset({"traefik"})
"""Groups that are built only when they are named: 2,500 packages for one proxy."""


def select(names: tuple[str, ...] | list[str]) -> list[Program]:
    """Programs of the groups and programs named, in build order. Raises ValueError for a name that is neither."""
    wanted: set[str] = set()
    for name in names:
        if name in GROUPS:
            wanted.update(GROUPS[name])
        elif name in PROGRAMS:
            wanted.add(name)
        else:
            raise ValueError(f"no program or group is called {name!r}: choose from {', '.join([*GROUPS, *PROGRAMS])}")
    return [program for program in PROGRAMS.values() if program.name in wanted]


def cache_dir() -> Path:
    """The one folder for what the project installs outside its tree: `COUNTERSIGN_CACHE`, or ~/.cache/countersign."""
    configured = os.environ.get("COUNTERSIGN_CACHE")
    return Path(configured).expanduser().absolute() if configured else Path.home() / ".cache" / "countersign"


def cached_path(program: Program) -> Path:
    """Where the program's binary lies once it is built."""
    return cache_dir() / "bin" / f"{program.name}-{program.key}" / program.name


def go_platform() -> tuple[str, str]:
    """(GOOS, GOARCH) of this machine."""
    machine = platform.machine().lower()
    return platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
