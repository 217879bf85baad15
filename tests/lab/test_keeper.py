"""`make lab` and `make lab-down`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import builder, keeper
from tests.lab.http import HttpClient
from tests.lab.waiting import wait_for

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test's own, with the programs that are built already."""
    assets = tmp_path / "assets"
    assets.mkdir()
    for name, path in builder.ensure(["control-plane", "registries"]).items():
        (assets / name).symlink_to(path)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("lab", "own_cache")
def test_the_background_lab_starts_once_and_ends_whole() -> None:
    assert _shell("status").returncode == 3
    try:
        first = _shell("up")
        state = keeper.running()
        assert state
        assert f"export KUBECONFIG={state.kubeconfig}" in first.stdout
        assert "runs already" in _shell("up").stdout
        client = HttpClient(state.url, ca_file=Path(state.ca_file))
        assert client.get("/readyz").status == 200
        os.kill(state.pid, signal.SIGKILL)
        wait_for(lambda: keeper.running() is None, what="a killed keeper does not count as running")
        wait_for(lambda: not _answers(client), what="its control plane goes with it")
    finally:
        assert _shell("down").returncode == 0


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.lab", command], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def _answers(client: HttpClient) -> bool:
    try:
        return client.get("/readyz").ok
    except Exception:  # refused, reset or cut off: whatever it is, nobody answers
        return False
