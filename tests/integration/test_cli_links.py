"""Both ways to the API server behave alike: the official client's, and our own, which the image has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from countersign.api.admission import Namespace
from countersign.cli.cluster import links
from countersign.cli.cluster.kube import ApiError, Kube
from tests.lab.lab import Lab
from tests.lab.processes import free_port
from tests.lab.programs import KUBERNETES_VERSION

WAYS = [links.OfficialLink, links.PlainLink]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> type[links.OfficialLink | links.PlainLink]:
    chosen: type[links.OfficialLink | links.PlainLink] = request.param
    return chosen


Way = type[links.OfficialLink | links.PlainLink]


def test_objects_are_read_and_created(lab: Lab, way: Way, namespace: str) -> None:
    kube = Kube(way(lab.kubeconfig))
    assert kube.version()[0].startswith("v1.")
    assert kube.get(f"/api/v1/namespaces/{namespace}", Namespace).metadata.name == namespace
    assert namespace in {one.metadata.name for one in kube.items("/api/v1/namespaces", Namespace)}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert kube.create(path, body, dry_run=True)["metadata"]["name"].startswith("x-")
    assert (
        lab.admin.get(path, expect=200, query={"fieldSelector": "metadata.name!=kube-root-ca.crt"}).body["items"] == []
    )


def test_a_token_identifies_its_service_account(lab: Lab, way: Way, namespace: str) -> None:
    kube = Kube(way(lab.service_account_kubeconfig(namespace, "default")))
    assert kube.namespace == namespace
    with pytest.raises(ApiError, match=f"system:serviceaccount:{namespace}:default") as refused:
        kube.get("/api/v1/namespaces", Namespace)
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")


def test_what_is_not_there_is_told_apart(lab: Lab, way: Way) -> None:
    kube = Kube(way(lab.kubeconfig))
    assert kube.find("/api/v1/namespaces/none-of-this-name", Namespace) is None


def test_an_api_server_out_of_reach_is_status_0(lab: Lab, way: Way, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(lab.kubeconfig.read_text().replace(lab.url, f"https://127.0.0.1:{free_port()}"))
    with pytest.raises(ApiError, match="cannot be reached") as failed:
        Kube(way(path)).version()
    assert failed.value.status == 0


def test_a_server_that_the_authority_does_not_vouch_for_is_not_spoken_to(lab: Lab, way: Way, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    text = lab.kubeconfig.read_text()
    path.write_text("\n".join(line for line in text.splitlines() if "certificate-authority" not in line))
    with pytest.raises(ApiError, match=r"(?i)certificate verify failed"):
        Kube(way(path)).version()


def test_without_the_official_client_a_login_by_plug_in_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: one\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {exec: {command: login}}}]\n"
        "contexts: [{name: one, context: {cluster: c, user: u}}]\n"
    )
    with pytest.raises(links.LinkError, match=r"an exec plug-in.*pip install 'countersign\[cli\]'"):
        links.PlainLink(path)


def test_a_command_needs_no_official_client(lab: Lab) -> None:
    program = (
        "import sys; sys.modules['kubernetes'] = None\n"
        f"sys.argv[1:] = ['doctor', '-o', 'json', '--kubeconfig={lab.kubeconfig}']\n"
        "from countersign.cli.main import run; run()"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert any(KUBERNETES_VERSION in check["found"] for check in json.loads(answer.stdout)), answer
