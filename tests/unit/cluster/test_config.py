"""Where the cluster is: from a pod's files or a kubeconfig, and refused where it would be less than it says."""

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.cluster.config import from_kubeconfig, in_cluster, load_config
from countersign.cluster.credentials import MAX_AGE_SECONDS, TokenFile, TrustFile, WatchedFile
from countersign.cluster.errors import ConfigError
from countersign.keys.authority import AuthoritySet, issue, new_authority

AUTHORITIES = AuthoritySet((new_authority(datetime.now(UTC)),))
CA = AUTHORITIES.trust_bundle()
CERTIFICATE, KEY = issue(AUTHORITIES.authorities[0], ["client"], datetime.now(UTC))


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kubeconfig(folder: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    document = {
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": "https://api.test:6443/", "certificate-authority-data": b64(CA)}
                | (cluster or {}),
            }
        ],
        "users": [{"name": "u", "user": {"token": "t"} if user is None else user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "current-context": "here",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_token_and_an_inline_ca_are_read(tmp_path: Path) -> None:
    config = from_kubeconfig(kubeconfig(tmp_path))
    assert (config.server, config.namespace) == ("https://api.test:6443", "team")
    assert config.token
    assert config.token() == "t"
    assert len(config.trust().get_ca_certs()) == 1
    assert config.trust().check_hostname
    other = config.with_token("other").token
    assert other
    assert other() == "other"


def test_a_client_certificate_is_loaded_inline_or_from_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    inline = {"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(KEY)}
    assert from_kubeconfig(kubeconfig(tmp_path, user=inline)).token is None
    (tmp_path / "c.pem").write_bytes(CERTIFICATE)
    (tmp_path / "k.pem").write_bytes(KEY)
    (tmp_path / "ca.pem").write_bytes(CA)
    files = {"client-certificate": "c.pem", "client-key": "k.pem"}
    cluster = {"certificate-authority-data": "", "certificate-authority": "ca.pem"}
    assert from_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=files)).trust().get_ca_certs()


def test_a_token_file_is_read_at_each_use(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    token = from_kubeconfig(kubeconfig(tmp_path, user={"tokenFile": "token"})).token
    assert token
    assert token() == "one"
    (tmp_path / "token").write_text("two, longer\n")
    assert token() == "two, longer"


@pytest.mark.parametrize(
    ("cluster", "user", "named"),
    [
        ({"insecure-skip-tls-verify": True}, None, "insecure-skip-tls-verify"),
        ({"proxy-url": "http://p.test"}, None, "proxy-url"),
        ({"server": "http://api.test"}, None, "https"),
        ({"certificate-authority-data": "!"}, None, "base64"),
        ({"certificate-authority-data": b64(b"junk")}, None, "PEM"),
        ({"certificate-authority-data": "", "certificate-authority": "absent.pem"}, None, "absent.pem"),
        ({}, {"exec": {"command": "login"}}, "exec plug-in"),
        ({}, {"auth-provider": {"name": "x"}}, "auth-provider"),
        ({}, {"username": "a", "password": "b"}, "basic auth"),
        ({}, {"token": "t", "as": "admin"}, "impersonation"),
        ({}, {"client-certificate-data": b64(CERTIFICATE)}, "both"),
        ({}, {"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(b"junk")}, "cannot be used together"),
        ({}, {"token": 5}, "not a kubeconfig"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any] | None, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        from_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user))


def test_a_missing_context_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="here"):
        from_kubeconfig(kubeconfig(tmp_path), "there")
    (tmp_path / "empty").write_text("{}")
    with pytest.raises(ConfigError, match="current-context"):
        from_kubeconfig(tmp_path / "empty")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"- a", b"{", b"clusters: 5"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config").write_bytes(content)
    with pytest.raises(ConfigError):
        from_kubeconfig(tmp_path / "config")


def test_a_pod_finds_everything_in_its_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"ca.crt": CA, "token": b"t\n", "namespace": b"countersign-system\n"}.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    config = in_cluster(tmp_path)
    assert (config.server, config.namespace) == ("https://[fd00::1]:6443", "countersign-system")
    assert config.token
    assert config.token() == "t"


def test_a_pod_without_its_files_fails_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigError, match=r"ca\.crt"):
        in_cluster(tmp_path)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(ConfigError, match="not in a pod"):
        in_cluster(tmp_path)


def test_the_environment_names_the_kubeconfig_outside_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path)))
    assert load_config().namespace == "team"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_file_is_read_again_when_it_changes_and_after_a_minute_anyway(tmp_path: Path) -> None:
    path, clock = tmp_path / "f", Clock()
    path.write_text("a")
    file = WatchedFile(path, clock)
    assert file.read() == b"a"
    seen = path.stat()
    path.write_text("b")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # changed without a trace
    assert file.read() == b"a"
    clock.now = MAX_AGE_SECONDS
    assert file.read() == b"b"


def test_the_last_contents_serve_while_the_file_is_away(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match="token"):
        TokenFile(path)()
    path.write_text("t")
    token = TokenFile(path)
    assert token() == "t"
    path.unlink()
    assert token() == "t"


def test_a_renewed_ca_is_trusted_and_a_broken_one_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_bytes(CA)
    trust = TrustFile(path)
    first = trust()
    assert trust() is first
    path.write_bytes(CA + AuthoritySet((new_authority(datetime.now(UTC)),)).trust_bundle())
    second = trust()
    assert len(second.get_ca_certs()) == 2
    path.write_bytes(b"half a certific")
    assert trust() is second
