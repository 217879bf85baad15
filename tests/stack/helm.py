"""The chart, installed, upgraded and removed by Helm's own library; its services run as processes all the same.

Without a node the chart's pods stay Pending, so nothing here waits for them unless a test is about that.

    with HelmInstallation(lab) as countersign:
        countersign.install()                         helm install
        countersign.start_all()
        countersign.upgrade({"gate": {"replicas": 3}})
        countersign.remove()                          helm uninstall, the processes still running
"""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from countersign.api import names
from countersign.api.objects import KINDS
from tests.lab.lab import Lab
from tests.render import CHART, RELEASE, ROOT
from tests.stack.installation import Installation
from tests.stack.objects import Object

if TYPE_CHECKING:
    import helm_python

PREVIOUS: Final = "8126b31"
"""The revision that stands for release 0.1.0, which was never published."""
OURS: Final = "app.kubernetes.io/name=countersign"
"""Selects what the chart makes."""

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_LABELLED: Final = (
    "/api/v1/pods",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/apis/apps/v1/deployments",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/rbac.authorization.k8s.io/v1/roles",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/networking.k8s.io/v1/networkpolicies",
    f"{_ADMISSION}/mutatingwebhookconfigurations",
    f"{_ADMISSION}/validatingwebhookconfigurations",
    f"{_ADMISSION}/validatingadmissionpolicies",
    f"{_ADMISSION}/validatingadmissionpolicybindings",
    f"{_ADMISSION}/mutatingadmissionpolicies",
    f"{_ADMISSION}/mutatingadmissionpolicybindings",
)


class HelmInstallation(Installation):
    """As Installation, but what is in the cluster is a Helm release."""

    def __init__(self, lab: Lab, *, chart: Path = CHART, **options: Any) -> None:
        super().__init__(lab, revives=False, **options)  # what it is removed under may end
        self.chart = chart

    @contextmanager
    def helm(self) -> Iterator[helm_python.Config]:
        """Helm as the admin, in the release's namespace."""
        import helm_python

        with helm_python.Config(kubeconfig_path=self.lab.kubeconfig, namespace=self.namespace) as config:
            yield config

    def install(self, **options: Any) -> None:
        """`helm install`, and wait until tokens are minted again (the API server loads the guards)."""
        with self.helm() as helm:
            helm.install(self.chart, RELEASE, self.values, namespace=self.namespace, create_namespace=True, **options)
        self.lab.wait_for(self.mints, what="the API server has loaded the guards")

    def upgrade(self, values: Mapping[str, Any] | None = None, *, chart: Path | None = None, **options: Any) -> None:
        """`helm upgrade`, to this chart and these values if any are given."""
        self.chart, self.values = chart or self.chart, dict(self.values if values is None else values)
        with self.helm() as helm:
            helm.upgrade(self.chart, RELEASE, self.values, namespace=self.namespace, **options)

    def rollback(self, revision: int) -> None:
        """`helm rollback`."""
        with self.helm() as helm:
            helm.rollback(RELEASE, version=revision)

    def remove(self) -> str:
        """`helm uninstall`; returns what Helm says. Our processes are left running, as pods are that still end."""
        with self.helm() as helm:
            return str(helm.uninstall(RELEASE, ignore_not_found=True).get("info", ""))

    def kill_all(self) -> None:
        """End the processes as lost nodes would."""
        for name in list(self.services):
            self.kill(name)

    def uninstall(self) -> None:
        """Leave the cluster as it was: the release, what it keeps, and the CRDs with all that is in them."""
        self.kill_all()
        self.remove()
        self.remove_webhooks()
        for path in self._own_paths():  # the previous release leaves them, the present one does not
            self.lab.admin.delete(path)
        self.lab.wait_for(lambda: not self.left_behind(), what="nothing is left behind")
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        paths = [f"{crds}/{kind.PLURAL}.{names.GROUP}" for kind in KINDS]
        for path in paths:
            self.lab.wait_for(partial(self._deleted, path), what=f"{path} may be deleted and is gone")

    def left_behind(self) -> list[str]:
        """What is still there of the chart and of the controller's own objects, but for CRDs and what is in them."""
        found = [
            f"{item['kind'] if 'kind' in item else path.rpartition('/')[2]} {item['metadata']['name']}"
            for path in _LABELLED
            for item in self._items(path, labelSelector=OURS)
        ]
        return found + self._own_paths()

    def _own_paths(self) -> list[str]:
        """Secrets, ConfigMaps and Leases of our namespace, but for what Kubernetes puts into each."""
        own = {"secrets": "/api/v1", "configmaps": "/api/v1", "leases": "/apis/coordination.k8s.io/v1"}
        folders = [f"{base}/namespaces/{self.namespace}/{plural}" for plural, base in own.items()]
        named = [(folder, item["metadata"]["name"]) for folder in folders for item in self._items(folder)]
        return [f"{folder}/{name}" for folder, name in named if name != "kube-root-ca.crt"]

    def webhook_configurations(self) -> list[Object]:
        """Both, or as many as there are."""
        paths = [f"{_ADMISSION}/{kind}webhookconfigurations/countersign" for kind in ("mutating", "validating")]
        return [answer.body for answer in map(self.lab.admin.get, paths) if answer.ok]

    def _items(self, path: str, **query: str) -> list[Object]:
        return list(self.lab.admin.get(path, query=query, expect=200).body["items"])

    def _deleted(self, path: str) -> bool:
        return self.lab.admin.delete(path).status == 404


def documented(name: str) -> list[list[str]]:
    """The kubectl commands of the block in docs/install.md that follows `<!-- test: NAME -->`, without `kubectl`."""
    text = (ROOT / "docs" / "install.md").read_text()
    block = text.partition(f"<!-- test: {name} -->")[2].partition("```sh\n")[2].partition("```")[0]
    lines = block.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    found = [command[1:] for command in commands if command and command[0] == "kubectl"]
    assert found, f"docs/install.md has no commands called {name}"
    return found


class NoHistoryError(Exception):
    """This is no clone of the repository, or a shallow one."""


def previous_release(folder: Path) -> Path:
    """The previous release's files, put into `folder`: `charts/countersign` and `operator`. Raises NoHistoryError."""
    command = ["git", "-C", str(ROOT), "archive", PREVIOUS, "charts", "operator"]
    try:
        archive = subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistoryError(f"git archive {PREVIOUS}: {getattr(error, 'stderr', b'') or error!r}") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder
