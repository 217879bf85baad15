"""Layers and packages: what decides a digest, and how a package is named."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.lab.image.debian import Package
from tests.lab.image.layer import Component, Layer, cached, pack


def tree(root: Path, *, mtime: int, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (mtime, mtime))
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "link").symlink_to("a/one")
    return root


def test_time_order_and_rights_of_the_builder_decide_nothing(tmp_path: Path) -> None:
    first = tree(tmp_path / "first", mtime=1, files={"a/one": "1", "b": "2"})
    second = tree(tmp_path / "second", mtime=10**9, files={"b": "2", "a/one": "1"})
    (second / "b").chmod(0o600)
    (second / "a").chmod(0o700)
    one, two = pack(first, tmp_path / "1.tar.gz"), pack(second, tmp_path / "2.tar.gz")
    assert (one.digest, one.diff_id, one.size) == (two.digest, two.diff_id, two.size)
    assert one.path.read_bytes() == two.path.read_bytes()


def test_content_name_link_and_executable_bit_decide_the_digest(tmp_path: Path) -> None:
    roots = [tree(tmp_path / str(number), mtime=1, files={"a/one": "1"}) for number in range(5)]
    (roots[1] / "a/one").write_text("2")
    (roots[2] / "a/one").rename(roots[2] / "a/two")
    (roots[3] / "a/one").chmod(0o755)
    (roots[4] / "link").unlink()
    (roots[4] / "link").symlink_to("a")
    assert len({pack(root, tmp_path / f"{root.name}.tar.gz").digest for root in roots}) == len(roots)


def test_a_layer_unpacks_to_what_was_packed(tmp_path: Path) -> None:
    layer = pack(tree(tmp_path / "root", mtime=1, files={"a/one": "1"}), tmp_path / "1.tar.gz")
    layer.unpack(tmp_path / "out")
    assert (tmp_path / "out/a/one").read_text() == "1"
    assert (tmp_path / "out/link").readlink() == Path("a/one")
    assert (tmp_path / "out/tmp").stat().st_mode & 0o7777 == 0o1777
    with tarfile.open(layer.path) as tar:
        assert tar.getnames() == ["a", "a/one", "link", "tmp"]


def test_a_layer_is_made_once_for_its_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path))
    made: list[str] = []

    def layer(name: str) -> Layer:
        def fill(root: Path) -> list[Component]:
            made.append(name)
            (root / "name").write_text(name)
            return [Component(name, "1", f"pkg:pypi/{name}@1", "0" * 64)]

        return cached("test", [name], fill)

    assert layer("x") == layer("x")
    assert layer("x").digest != layer("y").digest
    assert made == ["x", "y"]


def test_a_layer_that_could_not_be_filled_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path))

    def broken(root: Path) -> list[Component]:
        (root / "half").write_text("")
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        cached("test", ["x"], broken)
    layer = cached("test", ["x"], lambda root: [])
    assert layer.unpacked == 0


def test_a_package_url_escapes_what_has_a_meaning_in_it() -> None:
    package = Package("libstdc++6", "1:12.2.0-14+deb12u1~x", "amd64", "0" * 64, "file.deb")
    assert package.purl == "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0-14%2Bdeb12u1~x?arch=amd64&distro=debian-12"
