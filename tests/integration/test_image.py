"""The image that the lab builds: what is in it and what is not, and that the services run in it as its user."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.fakes.signing import bundle, make_key, pem_of, statement
from tests.lab.image import contract, debian, sbom, unpacked
from tests.lab.image.application import application_layer
from tests.lab.image.base import base_layer
from tests.lab.image.build import BuiltImage, countersign_image
from tests.lab.image.unpacked import Unpacked
from tests.lab.images import MANIFEST, digest_of
from tests.lab.lab import Lab
from tests.lab.programs import cache_dir
from tests.lab.registries import Registry
from tests.stack.installation import Installation

SIZE_LIMIT = 60_000_000
"""Bytes pulled. It has 39 million; a change that adds half as much again should be meant."""


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    if reason := debian.unsupported():
        pytest.skip(reason)
    return countersign_image()


@pytest.fixture(scope="module")
def files(image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files."""
    return image.unpack(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def container(image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """The image, to run programs in."""
    if reason := unpacked.cannot_run():
        pytest.skip(reason)
    return Unpacked(image, tmp_path_factory.mktemp("container"))


def test_the_same_inputs_give_the_same_layers(
    image: BuiltImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Only what was downloaded is taken over; the wheels' layer would be downloaded anew.
    shutil.copytree(cache_dir() / "image" / "debs", tmp_path / "image" / "debs")
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path))
    base, _, application = image.layers
    again = base_layer()
    assert again.path != base.path
    assert (again.digest, again.diff_id) == (base.digest, base.diff_id)
    assert application_layer(again).digest == application.digest


def test_its_config_runs_the_services_as_a_numeric_user(image: BuiltImage) -> None:
    config = json.loads(image.config)
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Entrypoint"] == [contract.COMMAND]
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]


def test_it_holds_no_shell_no_installer_and_no_official_client(files: Path) -> None:
    programs = {
        path.relative_to(files).as_posix()
        for path in files.rglob("*")
        if path.is_file() and os.access(path, os.X_OK) and path.stat().st_mode & 0o111 and ".so" not in path.name
    }
    mentioned = {name for name in programs if not name.startswith(("usr/lib/python3.11/", "opt/countersign/lib/"))}
    assert mentioned == {"usr/bin/python3", "usr/bin/python3.11", "opt/countersign/bin/countersign"}
    library = files / contract.LIBRARY[1:]
    assert not any((library / name).exists() for name in ("pip", "setuptools", "kubernetes"))
    assert not (files / "usr/lib/python3.11/ensurepip").exists()


def test_nothing_in_it_is_writable_or_owned_by_its_user(image: BuiltImage) -> None:
    for layer in image.layers:
        with tarfile.open(layer.path) as tar:
            for entry in tar:
                assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0), entry.name
                assert entry.issym() or not entry.mode & 0o022 or entry.name == "tmp", entry.name
                assert not entry.mode & 0o6000, entry.name


def test_every_library_that_something_loads_is_there(files: Path, container: Unpacked) -> None:
    """Each extension module of Python's and of the wheels', loaded by the image's own linker."""
    modules = [
        f"/{path.relative_to(files).as_posix()}"
        for folder in ("usr/lib/python3.11/lib-dynload", contract.LIBRARY[1:])
        for path in sorted((files / folder).rglob("*.so"))
    ]
    assert len(modules) > 30
    program = "import ctypes, sys\nfor path in sys.argv[1:]: ctypes.PyDLL(path)"
    answer = container.run("-c", program, *modules, program=contract.PYTHON)
    assert answer.returncode == 0, answer.stderr


def test_all_that_a_service_imports_has_bytecode(container: Unpacked) -> None:
    program = (
        "import sys, pathlib, countersign.gate.service, countersign.controller.service, countersign.verifier.service\n"
        "found = [m.__spec__ for m in sys.modules.values() if getattr(m, '__spec__', None)]\n"
        "print([s.origin for s in found if (s.origin or '').endswith('.py') and not pathlib.Path(s.cached).exists()])"
    )
    answer = container.run("-c", program, program=contract.PYTHON)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_its_user_can_write_nowhere(container: Unpacked) -> None:
    program = "import tempfile; print(tempfile.gettempdir())"
    answer = container.run("-c", program, program=contract.PYTHON)
    assert "No usable temporary directory" in answer.stderr


def test_its_user_can_start_workers_that_judge_conditions_and_are_killed(container: Unpacked) -> None:
    """In a root file system that is read-only for it, with no folder to write to."""
    program = """
import asyncio, json, sys
from countersign.runtime.workers import WorkerError, Workers
from countersign.signatures.examine import Candidate, Question, pack, unpack

async def main():
    loop, workers = asyncio.get_running_loop(), Workers(1)
    pem, kind, digest, small, large = json.loads(sys.argv[1])
    question = Question(digest=digest, keys=(pem,), predicates={kind: ("predicate.a == 1", "predicate.a == 2")})
    for data in (small, large):
        candidate = Candidate(form="bundle", data=data.encode())
        answer = await workers.run(sys.argv[2], *pack(candidate, question), deadline=loop.time() + 60)
        print([claim.holds for one in unpack(answer).attestations for claim in one.claims])
    try:
        await workers.run("time:sleep", b"", deadline=loop.time() - 1)
    except WorkerError as error:
        print(error.problem)
    await workers.close()

asyncio.run(main())
"""
    key, digest, kind = make_key(), "sha256:" + "ab" * 32, "https://example.com/p"
    statements = [statement(digest, kind, predicate={"a": 1, "padding": [0] * many}) for many in (1, 5000)]
    asked = json.dumps([pem_of(key), kind, digest, *(bundle(key, one).decode() for one in statements)])
    function = "countersign.signatures.examine:examine_packed"
    answer = container.run("-c", program, asked, function, program=contract.PYTHON)
    assert answer.stdout.split("\n") == ["[True, False]", "[True, False]", "Timeout", ""], answer.stderr


def test_it_trusts_the_authorities_of_debian(container: Unpacked) -> None:
    program = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(container.run("-c", program, program=contract.PYTHON).stdout) > 100


def test_a_traceback_names_the_file_as_the_container_sees_it(container: Unpacked) -> None:
    program = "import countersign.cli.main as m; print(m.__file__, m.run.__code__.co_filename)"
    told = container.run("-c", program, program=contract.PYTHON).stdout.split()
    assert told == [f"{contract.LIBRARY}/countersign/cli/main.py"] * 2


def test_it_is_small(image: BuiltImage) -> None:
    assert image.size < SIZE_LIMIT


def test_its_bill_of_materials_names_every_package_with_its_version(image: BuiltImage, files: Path) -> None:
    bill = sbom.cyclonedx(image)
    purls = {component["purl"] for component in bill["components"]}
    installed = {re.sub(r"[_.]", "-", path.name.split("-")[0]).lower() for path in files.rglob("*.dist-info")}
    assert installed == {component["name"] for component in bill["components"] if "pkg:pypi" in component["purl"]}
    packages = {path.name for path in (files / "var/lib/dpkg/status.d").iterdir()}
    assert packages == {component["name"] for component in bill["components"] if "pkg:deb" in component["purl"]}
    assert len(purls) == len(bill["components"])
    assert all(re.fullmatch("[0-9a-f]{64}", component["hashes"][0]["content"]) for component in bill["components"])


def test_its_archive_is_an_image_layout(image: BuiltImage, tmp_path: Path) -> None:
    with tarfile.open(image.oci_archive(tmp_path / "image.tar", "registry.example.com/x:v1")) as tar:
        held = {name: _content(tar, name) for name in tar.getnames()}
    assert json.loads(held["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(held["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "registry.example.com/x:v1"
    assert described["digest"] == image.digest
    for name, data in held.items():
        if name.startswith("blobs/"):
            assert digest_of(data) == name.removeprefix("blobs/").replace("/", ":")
    manifest = json.loads(held[f"blobs/{image.digest.replace(':', '/')}"])
    for part in (manifest["config"], *manifest["layers"]):
        assert len(held[f"blobs/{part['digest'].replace(':', '/')}"]) == part["size"]


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    with tar.extractfile(name) or io.BytesIO() as file:
        return file.read()


def test_a_registry_takes_it_under_its_digest(image: BuiltImage, referrers_registry: Registry) -> None:
    pushed = image.push(referrers_registry.repository("countersign/countersign"), "v1")
    assert (pushed.digest, pushed.media_type) == (image.digest, MANIFEST)


def test_every_service_becomes_ready_in_it_and_does_its_part(container: Unpacked, programs: None) -> None:
    """As user 65532, on a read-only root file system, with no writable folder at all."""
    with Lab.start() as lab, Installation.start(lab, program=container.command(lab.ca_file)) as countersign:
        assert {name: service.ready() for name, service in countersign.services.items()} == {
            "controller": True,
            "gate": True,
            "verifier": True,
        }
        doctor = container.run("doctor", "-o", "json", f"--kubeconfig={_by_token(lab)}", files=[lab.ca_file])
        checks = json.loads(doctor.stdout)
        assert [check for check in checks if check["result"] == "fail"] == []
        assert any("leads" in check["found"] for check in checks)


def _by_token(lab: Lab) -> Path:
    """A kubeconfig of an admin without files besides."""
    lab.create_namespace("operators")
    lab.admin.post(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "operators"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "operators", "name": "default"}],
        },
        expect=201,
    )
    return lab.service_account_kubeconfig("operators", "default")
