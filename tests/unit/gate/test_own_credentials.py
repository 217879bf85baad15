"""The gate's own registry credentials: after the pod's, for every namespace, and read anew when they change."""

import json
import os
from pathlib import Path

import pytest

from countersign.gate.evidence.own_credentials import CredentialsFile
from countersign.gate.evidence.service import EvidenceService
from countersign.registry.credentials import BadDockerConfig, Credential
from tests.fakes.registry import FakeRegistry
from tests.lab.pki import CertificateAuthority
from tests.unit.gate.evidence_scene import SIGNER, FakePullSecrets, ask, facts, refusal, serving


def write(path: Path, host: str, user: str, password: str) -> None:
    """As the kubelet does it: another file takes the name."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"auths": {host: {"username": user, "password": password}}}))
    draft.replace(path)


async def test_they_count_for_every_namespace_after_the_pods_own(
    ca: CertificateAuthority, one_registry: FakeRegistry, tmp_path: Path
) -> None:
    one_registry.basic = {"gate:own", "a:secret"}
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    path = tmp_path / "config.json"
    write(path, one_registry.host, "gate", "own")
    secrets = FakePullSecrets({"team-a": ("a", "secret"), "team-b": ("b", "wrong")}, one_registry.host)
    async with serving(ca, pull_secrets=secrets, own=CredentialsFile(path)) as service:
        used = {}
        for namespace in ("team-a", "team-b", "team-c"):
            one_registry.seen.clear()
            assert (await facts(service, ask(one_registry, "team/app:v1", namespace=namespace))).vouches
            used[namespace] = one_registry.seen[-1].authorization
    assert used == {
        "team-a": Credential("a", "secret").basic,
        "team-b": Credential("gate", "own").basic,
        "team-c": Credential("gate", "own").basic,
    }


async def test_what_the_gate_could_see_is_not_verified_for_others_once_its_credentials_are_gone(
    ca: CertificateAuthority, one_registry: FakeRegistry, tmp_path: Path
) -> None:
    one_registry.basic = {"gate:own"}
    digest = one_registry.put_image("team/app", "v1")
    one_registry.put_bundle("team/app", digest, SIGNER)
    path = tmp_path / "config.json"
    write(path, one_registry.host, "gate", "own")
    own = CredentialsFile(path)
    async with serving(ca, own=own) as service:
        request = ask(one_registry, f"team/app@{digest}")
        assert (await facts(service, request)).vouches
        write(path, one_registry.host, "gate", "rotated")
        own.look()
        assert (await refusal(service, request)).reason == "Unauthorized"


async def test_credentials_for_the_repository_of_signatures_are_its_own(
    ca: CertificateAuthority, one_registry: FakeRegistry
) -> None:
    """An image that anybody may pull, its signatures at a registry that wants a password."""
    async with FakeRegistry(ca) as vault:
        vault.basic = {"a:secret"}
        digest = one_registry.put_image("team/app", "v1")
        vault.put_bundle("signatures/all", digest, SIGNER)
        secrets = FakePullSecrets({"team-a": ("a", "secret")}, vault.host)
        repositories = (f"{vault.host}/signatures/all",)
        async with serving(ca, pull_secrets=secrets) as service:
            found = await facts(service, ask(one_registry, f"team/app@{digest}", repositories=repositories))
            assert found.vouches
            other = ask(one_registry, f"team/app@{digest}", repositories=repositories, namespace="team-b")
            assert (await refusal(service, other)).reason == "Unauthorized"
        assert {seen.authorization for seen in one_registry.seen} <= {None}


def test_a_file_that_becomes_unreadable_leaves_the_former_ones(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, "registry.example.com", "gate", "own")
    own = CredentialsFile(path)
    before = own.secrets()
    path.write_text("{")
    own.look()
    assert own.secrets() == before
    path.unlink()
    own.look()
    assert own.secrets() == before
    write(path, "registry.example.com", "gate", "new")
    own.look()
    assert own.secrets() != before


@pytest.mark.parametrize("content", ["", "[]", "not json"])
def test_a_gate_does_not_start_with_a_file_that_holds_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(BadDockerConfig):
        CredentialsFile(path)
    with pytest.raises(OSError, match="No such file"):
        CredentialsFile(tmp_path / "missing")


def test_a_file_of_the_same_size_and_time_that_took_the_name_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, "registry.example.com", "gate", "one")
    own = CredentialsFile(path)
    before, times = own.secrets(), path.stat()
    write(path, "registry.example.com", "gate", "two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    own.look()
    assert own.secrets() != before


async def test_without_any_credentials_everybody_is_anonymous(
    one_registry: FakeRegistry, service: EvidenceService
) -> None:
    one_registry.put_image("team/app", "v1")
    await facts(service, ask(one_registry, "team/app:v1"))
    assert {seen.authorization for seen in one_registry.seen} == {None}
