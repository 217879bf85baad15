"""`countersign exception`, without a cluster: what it writes, and what its page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from countersign.api.exception import TrustException
from countersign.cli.cluster.kube import ApiError
from countersign.cli.files.schema_check import problems
from countersign.cli.main import application
from countersign.cli.orders import exception as command
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.trust.build import exception

PAGE = Path(__file__).parents[3] / "docs/exceptions.md"
ARGUMENTS = [
    "exception", "create", "legacy", "--policy=payments", "--policy=team-a/own", "--waive=ImageUnsigned", "--for=30d",
    "--owner=team@example.com", "--reason=until May", "--namespace=billing", "--image=registry.example.com/billing/**",
]  # fmt: skip


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(command, "connected", lambda *_: fake)
    monkeypatch.setattr(command, "requester", lambda _: "olga")
    return fake


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(application("exception"), list(arguments), catch_exceptions=False)
    return result.exit_code, result.output


def test_the_object_that_its_page_shows_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert problems(TrustException, yaml.safe_load(text)) == ()


def test_it_writes_what_it_was_told(cluster: FakeCluster) -> None:
    code, output = run(*ARGUMENTS)
    assert code == 0, output
    ((path, body, _),) = cluster.created
    assert path == "/apis/countersign.dev/v1alpha1/trustexceptions"
    spec = body["spec"]
    assert spec["policyRefs"] == [
        {"kind": "ClusterTrustPolicy", "name": "payments"},
        {"kind": "TrustPolicy", "namespace": "team-a", "name": "own"},
    ]
    assert spec["match"] == {"namespaces": ["billing"], "images": ["registry.example.com/billing/**"]}
    assert (spec["waives"], spec["requestedBy"]) == ([{"check": "ImageUnsigned"}], "olga")
    assert "tokens" not in spec


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--for=91d", "at most 90d"),
        ("--for=soon", "at most 90d"),
        ("--waive=ImageRevoked", "can be waived: ImageNotCovered"),
        ("--service-account=api", "write NAMESPACE/NAME"),
        ("--image=No Image", "spec.match.images"),
    ],
)
def test_what_no_cluster_would_take_is_refused_here(cluster: FakeCluster, wrong: str, says: str) -> None:
    code, output = run(*ARGUMENTS, wrong)
    assert (code, says in output) == (2, True), output
    assert cluster.created == []


def test_who_may_not_is_told_so(cluster: FakeCluster) -> None:
    cluster.on_create = ApiError(403, "Forbidden", "olga cannot create trustexceptions")
    code, output = run(*ARGUMENTS)
    assert (code, "olga cannot create" in output) == (2, True), output


def test_a_line_says_what_it_waives_and_for_which_policies() -> None:
    line = command.row(exception("legacy", "ImageUnsigned", "EnvNotAllowed"), active=True)
    assert (line["active"], line["until"]) == ("yes", "2026-03-01T12:30:00Z")
    assert (line["waives"], line["policies"]) == (["ImageUnsigned", "EnvNotAllowed"], ["payments"])
