"""The builder finds before it builds, builds once, and says what went wrong."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import builder
from tests.lab.programs import GROUPS, KUBERNETES_VERSION, OWN_MODULES, PROGRAMS, Program, cached_path, select
from tests.lab.progress import PlainProgress
from tests.lab.toolchain import installed_version, parse_version, required_version
from tests.lab.waiting import wait_for

# Does what `go build ... -o OUT PACKAGE` does, as far as the builder can tell; counts its runs in the file `runs`.
_FAKE_GO = """#!{python}
import os, pathlib, sys, time
here = pathlib.Path(__file__).parent
if sys.argv[1:] == ["env", "GOVERSION"]:
    print("go1.99.1")
    sys.exit()
with (here / "runs").open("a") as runs:
    runs.write(sys.argv[-1] + chr(10))
while (here / "hold").exists():
    time.sleep(0.01)
if (here / "broken").exists():
    print("noise" + chr(10) * 50)
    print("./main.go:3:5: undefined: door")
    sys.exit(1)
out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
out.write_text(os.environ["GOFLAGS"])
out.chmod(0o755)
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    program = tmp_path / "go"
    program.write_text(_FAKE_GO.format(python=sys.executable))
    program.chmod(0o755)
    return program


class Recorder(builder.Silent):
    def __init__(self) -> None:
        self.events: list[str] = []

    def plan(self, missing: Sequence[Program]) -> None:
        self.events.append("plan " + " ".join(program.name for program in missing))

    def waiting(self, program: Program) -> None:
        self.events.append(f"waiting {program.name}")

    def started(self, program: Program) -> None:
        self.events.append(f"started {program.name}")


def _runs(go: Path) -> list[str]:
    path = go.parent / "runs"
    return path.read_text().split() if path.exists() else []


def test_a_program_is_built_once_and_then_found(go: Path) -> None:
    first = builder.ensure(["etcd"], go=go)
    assert builder.ensure(["etcd"], go=go) == first == {"etcd": cached_path(PROGRAMS["etcd"])}
    assert _runs(go) == [PROGRAMS["etcd"].package]


def test_the_assets_folder_comes_before_the_cache(go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder.ensure(["etcd", "kubectl"], go=go)
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "etcd").write_text("mine")
    (assets / "etcd").chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = builder.ensure(["etcd", "kubectl"], go=go)
    assert found == {"etcd": assets / "etcd", "kubectl": cached_path(PROGRAMS["kubectl"])}


def test_only_what_is_asked_for_is_built_the_dearest_first(go: Path) -> None:
    recorder = Recorder()
    builder.ensure(["etcd", "kube-apiserver"], recorder, go=go)
    assert recorder.events == ["plan kube-apiserver etcd", "started kube-apiserver", "started etcd"]


def test_the_users_go_flags_stay_but_the_pins_are_never_changed(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-buildvcs=false -mod=mod")
    assert builder.ensure(["etcd"], go=go)["etcd"].read_text() == "-buildvcs=false -mod=readonly"


def test_a_failed_build_names_the_program_and_shows_the_compilers_last_lines(go: Path) -> None:
    (go.parent / "broken").touch()
    with pytest.raises(builder.BuildError, match=r"(?s)^etcd does not build.*undefined: door") as failed:
        builder.ensure(["etcd"], go=go)
    assert "noise" not in str(failed.value)
    assert builder.locate(PROGRAMS["etcd"]) is None


def test_the_second_of_two_runs_waits_and_does_not_build_again(go: Path) -> None:
    hold = go.parent / "hold"
    hold.touch()
    recorders = [Recorder(), Recorder()]
    threads = [
        threading.Thread(target=builder.ensure, args=(["etcd"], recorder), kwargs={"go": go}) for recorder in recorders
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: any("waiting etcd" in recorder.events for recorder in recorders), what="one waits")
    hold.unlink()
    for thread in threads:
        thread.join(10)
    assert len(_runs(go)) == 1
    assert sorted(event for recorder in recorders for event in recorder.events if "plan" not in event) == [
        "started etcd",
        "waiting etcd",
    ]


def test_another_pin_is_another_binary(tmp_path: Path) -> None:
    module = tmp_path / "kubernetes"
    module.mkdir()
    keys = set()
    for checksums in ("one", "two"):
        (module / "go.mod").write_text("module x")
        (module / "go.sum").write_text(checksums)
        keys.add(replace(PROGRAMS["etcd"], modules=tmp_path).key)
    assert len(keys) == 2


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"control-plane.*cosign"):
        select(["kube"])


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.name)
def test_every_program_is_pinned_by_its_module(program: Program) -> None:
    own = program.package.startswith(OWN_MODULES)
    assert own or f'_ "{program.package}"' in (program.module_dir / "tools.go").read_text()
    assert any(program.name in names for names in GROUPS.values())


def test_the_version_that_kubectl_reports_is_the_pinned_one() -> None:
    assert f"k8s.io/kubernetes {KUBERNETES_VERSION}\n" in (PROGRAMS["kubectl"].module_dir / "go.mod").read_text()


def test_go_versions_compare() -> None:
    assert parse_version("go1.26.8") > parse_version("1.26.0") > parse_version("go1.26rc2") > parse_version("go1.9")
    assert parse_version("devel +abc") == (0,)


def test_the_version_of_a_go_program_is_asked_of_it(go: Path) -> None:
    assert installed_version(go) == (1, 99, 1) >= required_version()
    assert installed_version(go.parent / "absent") == (0,)


def test_plain_progress_says_what_is_built_and_what_is_still_to_come(go: Path) -> None:
    out = io.StringIO()
    builder.ensure(["etcd", "kube-apiserver"], PlainProgress(out), go=go)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("Programs of the lab that are not built yet: kube-apiserver, etcd.")
    assert lines[1] == "kube-apiserver: building (typically 4:45)"
    assert re.fullmatch(r"kube-apiserver: ready after 0:0\d; still to come: etcd \(typically 0:13\)", lines[2])
    assert lines[-1].startswith("etcd: ready after")
