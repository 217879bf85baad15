"""The running lab: control plane, registries, cosign, identities."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab import builder
from tests.lab.audit import AuditLog, Event
from tests.lab.controlplane import ADMIN, LOOPBACK, ControlPlane, write_kubeconfig
from tests.lab.cosign import Cosign
from tests.lab.http import HttpClient
from tests.lab.node import NodePlayer
from tests.lab.pki import CertificateAuthority
from tests.lab.processes import Processes
from tests.lab.realnode import node as realnode
from tests.lab.realnode.node import RealNode
from tests.lab.registries import Registry, RegistryKind
from tests.lab.sigstore.services import PROGRAMS as SIGSTORE_PROGRAMS
from tests.lab.sigstore.services import Sigstore
from tests.lab.waiting import TIMEOUT_SECONDS, wait_for

_NODE_GROUP = "system:nodes"
_SCHEDULER = "system:kube-scheduler"


class KubectlError(AssertionError):
    """kubectl ended with an error; the message is what it printed."""


class Lab:
    """Everything a test needs of a cluster. Use `Lab.start()` as a context manager; all ends with it."""

    def __init__(
        self,
        folder: Path,
        processes: Processes,
        control_plane: ControlPlane,
        ca: CertificateAuthority,
        *,
        address: str = LOOPBACK,
    ) -> None:
        self.folder = folder
        self.ca = ca
        self.processes = processes
        self.control_plane = control_plane
        self.url = control_plane.url
        self.ca_file = ca.cert_file
        self.audit = AuditLog(control_plane.audit_log)
        self.address = address
        """Where the lab's servers listen: loopback, or the machine's end of the wire to the real node."""
        self._real_node: RealNode | None = None
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, ...], HttpClient] = {}
        self._registries: dict[RegistryKind, Registry] = {}
        self._nodes: dict[str, NodePlayer] = {}
        self._cosign: Cosign | None = None
        self._sigstores: dict[str, Sigstore] = {}
        self._names = itertools.count(1)
        self.kubeconfig = self.kubeconfig_for(*ADMIN)
        self.admin = self.api(*ADMIN)

    @classmethod
    def start(
        cls,
        *,
        folder: Path | None = None,
        node: bool = False,
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
        progress: builder.Progress | None = None,
    ) -> Self:
        """Build what is missing, start the control plane, return when it is ready.

        Without `folder` all state lies in a temporary folder that goes when the lab ends, however it ends. Registries,
        cosign and Sigstore come with the first use. With `node` a real kubelet runs pods (`tests.lab.realnode`):
        Linux, root.
        """
        programs = builder.ensure(["control-plane", *(["node"] if node else [])], progress)
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="countersign-lab-"))
            processes = Processes(remove=folder)
        else:
            processes = Processes()
        try:
            ca = CertificateAuthority(folder / "pki")
            sandbox = realnode.prepare(folder, processes) if node else None
            address = sandbox.host_address if sandbox else LOOPBACK
            if sandbox:
                apiserver_flags = (*realnode.apiserver_flags(sandbox, ca), *apiserver_flags)
                controller_flags = (*realnode.CONTROLLER_FLAGS, *controller_flags)
            control_plane = ControlPlane(
                folder,
                programs,
                processes,
                ca,
                host=address,
                apiserver_flags=apiserver_flags,
                controller_flags=controller_flags,
            )
            lab = cls(folder, processes, control_plane, ca, address=address)
            if sandbox:
                lab._join(sandbox)
            return lab
        except BaseException:
            processes.close()
            raise

    def close(self) -> None:
        """End every process of the lab."""
        for client in self._clients.values():
            client.close()
        if self._real_node:
            self._real_node.close()
        for sigstore in self._sigstores.values():
            sigstore.close()
        self.processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Identities

    def api(self, user: str = ADMIN[0], groups: Sequence[str] | None = None) -> HttpClient:
        """A client that is this user by certificate. No arguments: `lab-admin` in `system:masters`."""
        groups = _groups(user, groups)
        with self._lock:
            key = (user, *groups)
            if key not in self._clients:
                files = self.ca.client(user, groups)
                self._clients[key] = HttpClient(
                    self.url, ca_file=self.ca_file, cert_file=files.cert, key_file=files.key
                )
            return self._clients[key]

    def api_with_token(self, token: str) -> HttpClient:
        """A client that shows this bearer token."""
        return HttpClient(self.url, ca_file=self.ca_file, headers={"Authorization": f"Bearer {token}"})

    def kubeconfig_for(self, user: str, groups: Sequence[str] | None = None) -> Path:
        """A kubeconfig with this identity, by client certificate."""
        groups = _groups(user, groups)
        name = "-".join([user, *groups]).replace(":", "_").replace("/", "_")
        path = self.folder / "kubeconfigs" / name
        with self._lock:
            return (
                path if path.exists() else write_kubeconfig(path, self.url, self.ca_file, self.ca.client(user, groups))
            )

    def service_account_token(
        self, namespace: str, name: str, *, audience: str | None = None, expiration_seconds: int = 3600
    ) -> str:
        """A token of this service account, bound to nothing, asked for by the admin."""
        spec: dict[str, Any] = {"expirationSeconds": expiration_seconds}
        if audience:
            spec["audiences"] = [audience]
        answer = self.admin.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
            expect=201,
        )
        return str(answer.body["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str, *, expiration_seconds: int = 86400) -> Path:
        """A kubeconfig with a fresh token of this service account."""
        token = self.service_account_token(namespace, name, expiration_seconds=expiration_seconds)
        path = self.folder / "kubeconfigs" / f"serviceaccount-{namespace}-{name}-{next(self._names)}"
        return write_kubeconfig(path, self.url, self.ca_file, token, namespace=namespace)

    def node(self, name: str = "n1") -> NodePlayer:
        """A registered node of this name."""
        with self._lock:
            if name not in self._nodes:
                player = NodePlayer(name, self.api(f"system:node:{name}", [_NODE_GROUP]), self.api(_SCHEDULER))
                player.register()
                self._nodes[name] = player
            return self._nodes[name]

    @property
    def real_node(self) -> RealNode:
        """The node that runs pods, if the lab was started with one."""
        if self._real_node is None:
            raise AssertionError("this lab has no real node: start it with `Lab.start(node=True)`")
        return self._real_node

    def _join(self, sandbox: realnode.Sandbox) -> None:
        for binding in realnode.role_bindings():
            self.admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding, expect=201)
        self._real_node = realnode.RealNode(sandbox, self.processes, self.ca, self.url)
        wait_for(lambda: self.is_node_ready(realnode.NODE_NAME), what="the node is Ready", timeout=60)

    def is_node_ready(self, name: str) -> bool:
        """Whether a node of this name is there and Ready."""
        answer = self.admin.get(f"/api/v1/nodes/{name}")
        conditions = answer.body.get("status", {}).get("conditions", []) if answer.ok else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    # kubectl

    def kubectl(
        self,
        *args: str,
        as_: str | tuple[str, Sequence[str]] | None = None,
        kubeconfig: Path | None = None,
        input_: str | None = None,
    ) -> str:
        """Run kubectl as the admin, as `as_` (user, or user and groups), or with a kubeconfig; returns its stdout.

        Raises KubectlError with what kubectl printed.
        """
        answer = self.try_kubectl(*args, as_=as_, kubeconfig=kubeconfig, input_=input_)
        if answer.returncode:
            raise KubectlError(f"kubectl {' '.join(args)}: {answer.stderr.strip() or answer.stdout.strip()}")
        return answer.stdout

    def try_kubectl(
        self,
        *args: str,
        as_: str | tuple[str, Sequence[str]] | None = None,
        kubeconfig: Path | None = None,
        input_: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """As `kubectl`, but the outcome is the caller's to judge."""
        if as_ is not None:
            kubeconfig = self.kubeconfig_for(as_) if isinstance(as_, str) else self.kubeconfig_for(*as_)
        program = builder.ensure(["kubectl"])["kubectl"]
        env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "kube"),
        }
        return subprocess.run(
            [program, *args], env=env, input=input_, capture_output=True, text=True, check=False, timeout=120
        )

    # Objects

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> str:
        """Create a namespace and wait until its default service account and CA bundle are there."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}
        self.admin.post("/api/v1/namespaces", body, expect=201)
        base = f"/api/v1/namespaces/{name}"
        wait_for(
            lambda: (
                self.admin.get(f"{base}/serviceaccounts/default").ok
                and self.admin.get(f"{base}/configmaps/kube-root-ca.crt").ok
            ),
            what=f"service account `default` of namespace {name}",
        )
        return name

    def grant_role(self, namespace: str, user: str, role: str = "edit", kind: str = "User") -> None:
        """Bind a ClusterRole to a user (or Group) in one namespace."""
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"generateName": f"{role}-"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user}],
        }
        self.admin.post(path, body, expect=201)
        if kind == "User" and role in ("view", "edit", "admin"):
            # The authorizer learns of a binding by a watch of its own.
            self.wait_for(lambda: self._may_get_pods(user, namespace), what=f"{user} has the role {role}")

    def _may_get_pods(self, user: str, namespace: str) -> bool:
        asked = {"user": user, "resourceAttributes": {"namespace": namespace, "verb": "get", "resource": "pods"}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.admin.post(path, review, expect=201).body["status"]["allowed"])

    def grant_cluster_role(self, user: str, role: str) -> None:
        """Bind a ClusterRole to a user for the whole cluster."""
        path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"generateName": f"{role}-"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        self.admin.post(path, body, expect=201)

    def wait_for(self, probe: Callable[[], Any], *, what: str, timeout: float = TIMEOUT_SECONDS) -> Any:
        """The first answer of `probe` that is something (`waiting.wait_for`)."""
        return wait_for(probe, what=what, timeout=timeout)

    def pods(
        self, namespace: str, selector: str = "", *, count: int | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> list[Any]:
        """Pods of a namespace; with `count`, wait until there are at least so many."""
        path = f"/api/v1/namespaces/{namespace}/pods"

        def found() -> list[Any]:
            items: list[Any] = self.admin.get(path, query={"labelSelector": selector}, expect=200).body["items"]
            return items

        if not count:
            return found()
        what = f"{count} pods `{selector}` in {namespace}"
        return wait_for(lambda: pods if len(pods := found()) >= count else None, what=what, timeout=timeout)

    def audit_events(self, where: Callable[[Event], bool] | None = None, **conditions: str) -> list[Event]:
        """Events of the audit log; conditions: verb, resource, subresource, namespace, name, user."""
        return self.audit.events(where, **conditions)

    # Registries and signatures

    def registry(self, kind: RegistryKind | str = RegistryKind.REFERRERS) -> Registry:
        """The registry of this kind, started at first use."""
        kind = RegistryKind(kind)
        with self._lock:
            if kind not in self._registries:
                programs = builder.ensure([kind.program])
                self._registries[kind] = Registry(
                    kind, self.folder / f"registry-{kind}", programs, self.processes, self.ca, address=self.address
                )
                if self._real_node:
                    self._real_node.containerd.trust(self._registries[kind].host, self.ca_file)
            return self._registries[kind]

    @property
    def cosign(self) -> Cosign:
        """cosign, ready to sign in the lab's registries."""
        with self._lock:
            if self._cosign is None:
                self._cosign = Cosign(builder.ensure(["cosign"])["cosign"], self.folder / "cosign")
            return self._cosign

    @property
    def sigstore(self) -> Sigstore:
        """The lab's own Sigstore, for keyless signatures, logs and timestamps; started at first use."""
        return self.another_sigstore("sigstore")

    def another_sigstore(self, name: str) -> Sigstore:
        """A Sigstore of this name, started at first use: a stranger, whose keys no other knows."""
        with self._lock:
            if name not in self._sigstores:
                programs = builder.ensure(SIGSTORE_PROGRAMS)
                self._sigstores[name] = Sigstore(
                    self.folder / name, programs, self.processes, self.ca, self.cosign.run, name=name
                )
            return self._sigstores[name]


def _groups(user: str, groups: Sequence[str] | None) -> tuple[str, ...]:
    if groups is None:
        return ADMIN[1] if user == ADMIN[0] else ()
    return tuple(groups)
