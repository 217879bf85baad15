from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from countersign.cli.image import docker_config
from countersign.registry.credentials import Credential, Keyring, parse_docker_config

ANSWER = """printf '{"ServerURL": "%s", "Username": "%s", "Secret": "s"}' "$server" "$server\""""


def config(folder: Path, content: Any) -> Path:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lookup(path: Path, image: str) -> tuple[Credential, ...]:
    secrets = docker_config.load(path, [image.partition("/")[0]])
    return Keyring([entry for one in secrets for entry in parse_docker_config(one.type, one.data)]).lookup(image)


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_stored_credentials_are_used(tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    path = config(tmp_path, {"auths": {"r.example.com": {"auth": auth}}, "HttpHeaders": {}})
    assert lookup(path, "r.example.com/x") == (Credential("me", "secret"),)
    assert lookup(path, "other.example.com/x") == ()


@pytest.mark.parametrize("members", [{"credsStore": "test"}, {"credHelpers": {"r.example.com": "test"}}])
def test_a_credential_helper_is_asked_for_the_registry(
    members: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'read server; test "$1" = get && {ANSWER}'
    helper(tmp_path, "test", script, monkeypatch)
    path = config(tmp_path, {"auths": {"r.example.com": {}}, **members})
    assert lookup(path, "r.example.com/x") == (Credential("r.example.com", "s"),)


def test_docker_hub_has_its_old_address_at_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"read server; {ANSWER}"
    helper(tmp_path, "test", script, monkeypatch)
    path = config(tmp_path, {"credsStore": "test"})
    assert lookup(path, "docker.io/library/nginx") == (Credential("https://index.docker.io/v1/", "s"),)


def test_a_helper_that_knows_nothing_leaves_the_registry_anonymous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helper(tmp_path, "test", "echo credentials not found in native keychain; exit 1", monkeypatch)
    assert lookup(config(tmp_path, {"credsStore": "test"}), "r.example.com/x") == ()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo nonsense", "does not answer in JSON"),
        ('echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"s\\"}"', "identity token"),
    ],
)
def test_a_helper_that_cannot_be_used_is_told(
    script: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    helper(tmp_path, "test", script, monkeypatch)
    assert lookup(config(tmp_path, {"credsStore": "test"}), "r.example.com/x") == ()
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../evil", "missing"])
def test_a_helper_that_is_not_there_is_told(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lookup(config(tmp_path, {"credsStore": name}), "r.example.com/x") == ()
    assert "no credentials for r.example.com" in capsys.readouterr().err


def test_a_helper_that_hangs_is_ended_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docker_config, "HELPER_SECONDS", 0.2)
    helper(tmp_path, "test", "exec sleep 600", monkeypatch)
    assert lookup(config(tmp_path, {"credsStore": "test"}), "r.example.com/x") == ()
    assert "timed out" in capsys.readouterr().err


def test_without_a_configuration_registries_are_asked_anonymously(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert docker_config.load(tmp_path / "config.json", ["r.example.com"]) == ()
    assert capsys.readouterr().err == ""


def test_a_broken_configuration_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert docker_config.load(config(tmp_path, "{"), ["r.example.com"]) == ()
    assert "config.json" in capsys.readouterr().err


def test_the_configuration_is_where_docker_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert docker_config.default_path({"DOCKER_CONFIG": "/d"}) == Path("/d/config.json")
    monkeypatch.setenv("HOME", "/home/me")
    assert docker_config.default_path({}) == Path("/home/me/.docker/config.json")
