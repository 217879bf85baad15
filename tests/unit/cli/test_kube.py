from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from countersign.api.admission import Namespace
from countersign.cli.cluster.kube import ApiError, Kube, connected, ended_by


class Paged(Kube):
    """Lists three namespaces, two to a page."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[Mapping[str, str]] = []

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> tuple[bytes, Mapping[str, str]]:
        self.asked.append(dict(query or {}))
        names, token = (["a", "b"], "next") if "continue" not in (query or {}) else (["c"], "")
        items = [{"metadata": {"name": name}} for name in names]
        return json.dumps({"metadata": {"continue": token}, "items": items}).encode(), {}


def test_a_collection_is_read_page_by_page() -> None:
    kube = Paged()
    names = [one.metadata.name for one in kube.items("/api/v1/namespaces", Namespace, labelSelector="x=y")]
    assert names == ["a", "b", "c"]
    assert [query.get("continue") for query in kube.asked] == [None, "next"]
    assert {query["labelSelector"] for query in kube.asked} == {"x=y"}


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ApiError(0, "Unreachable", "connection refused"), 3, "reading: connection refused"),
        (ApiError(401, "Unauthorized", "Unauthorized"), 2, "renew your login"),
        (ApiError(403, "Forbidden", "pods is forbidden"), 2, "you may not: pods is forbidden"),
        (ApiError(404, "", "404 page not found"), 2, "install Countersign first"),
        (ApiError(404, "NotFound", 'pods "x" not found'), 2, 'pods "x" not found'),
        (ApiError(422, "Invalid", "spec.reason: too long"), 2, "spec.reason: too long"),
        (ApiError(429, "TooManyRequests", "slow down"), 3, "slow down"),
        (ApiError(503, "ServiceUnavailable", "no endpoints"), 3, "no endpoints"),
    ],
)
def test_an_error_of_the_api_server_ends_the_command_with_the_way_out(
    error: ApiError, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        ended_by(error, "reading")
    assert ended.value.exit_code == code
    assert told in capsys.readouterr().err


def test_without_a_cluster_the_command_says_where_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(typer.Exit):
        connected(None, None)
    assert "pass --kubeconfig or set KUBECONFIG" in capsys.readouterr().err


def test_a_context_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\ncurrent-context: ''\n")
    with pytest.raises(typer.Exit):
        connected(path, "missing")
    assert "the kubeconfig cannot be used" in capsys.readouterr().err


def test_the_namespace_is_that_of_the_context(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: one\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {token: x}}]\n"
        "contexts:\n"
        "- {name: one, context: {cluster: c, user: u, namespace: shop}}\n"
        "- {name: two, context: {cluster: c, user: u}}\n"
    )
    assert connected(path, None).namespace == "shop"
    assert connected(path, "two").namespace == "default"
