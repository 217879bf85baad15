"""The lab's TUF mirror is one: real clients take the trusted root from it, follow it, and refuse what is old."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, ExpiredMetadataError
from tuf.ngclient import Updater

from tests.lab import builder
from tests.lab.cosign import Cosign
from tests.lab.http import HttpClient
from tests.lab.lab import Lab
from tests.lab.sigstore.mirror import TRUSTED_ROOT, TufMirror


@pytest.fixture
def mirror(lab: Lab) -> TufMirror:
    return lab.sigstore.mirror(tls=False)


def fetch(mirror: TufMirror, folder: Path) -> bytes:
    """The trusted root as a TUF client gets it that trusts `root_file` and keeps what it saw in `folder`."""
    folder.mkdir(exist_ok=True)
    updater = Updater(
        str(folder), mirror.url, str(folder), f"{mirror.url}/targets/", bootstrap=mirror.root_file.read_bytes()
    )
    updater.refresh()
    target = updater.get_targetinfo(TRUSTED_ROOT)
    assert target
    return Path(updater.download_target(target)).read_bytes()


def test_a_client_gets_the_trusted_root(lab: Lab, mirror: TufMirror, tmp_path: Path) -> None:
    assert fetch(mirror, tmp_path) == lab.sigstore.trusted_root.read_bytes()
    assert "/timestamp.json" in mirror.requests


def test_it_speaks_https_by_the_labs_authority(lab: Lab) -> None:
    mirror = lab.sigstore.mirror()
    answer = HttpClient(mirror.url, ca_file=lab.ca_file).get("/1.root.json", expect=200)
    assert answer.data == mirror.root_file.read_bytes()


def test_a_client_follows_a_new_version_and_a_new_root_key(mirror: TufMirror, tmp_path: Path) -> None:
    fetch(mirror, tmp_path)
    mirror.rotate_root_key()
    mirror.publish({TRUSTED_ROOT: b"{}"})
    assert fetch(mirror, tmp_path) == b"{}"
    assert fetch(mirror, tmp_path / "fresh") == b"{}"


def test_a_client_refuses_what_has_expired(mirror: TufMirror, tmp_path: Path) -> None:
    mirror.publish({TRUSTED_ROOT: b"{}"}, lifetime=-datetime.timedelta(hours=1))
    with pytest.raises(ExpiredMetadataError):
        fetch(mirror, tmp_path)


def test_a_mirror_that_is_down_says_so(mirror: TufMirror, tmp_path: Path) -> None:
    mirror.down = True
    with pytest.raises(DownloadError):
        fetch(mirror, tmp_path)


def test_cosign_takes_the_trusted_root_from_it(lab: Lab, mirror: TufMirror, tmp_path: Path) -> None:
    """With a home of its own: what `cosign initialize` trusts, all later commands trust."""
    cosign = Cosign(builder.ensure(["cosign"])["cosign"], tmp_path)
    checksum = hashlib.sha256(mirror.root_file.read_bytes()).hexdigest()
    cosign.run("initialize", f"--mirror={mirror.url}", f"--root={mirror.root_file}", f"--root-checksum={checksum}")
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path.name.endswith(TRUSTED_ROOT)]
    assert [path.read_bytes() for path in found] == [lab.sigstore.trusted_root.read_bytes()]
