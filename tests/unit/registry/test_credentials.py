"""Pull secrets: read, and chosen for an image as the kubelet chooses."""

import base64
import json
from typing import Any

import pytest

from countersign.registry.credentials import (
    ANONYMOUS,
    MAX_DOCKER_CONFIG_BYTES,
    BadDockerConfig,
    Credential,
    Keyring,
    parse_docker_config,
    scope_of,
)

JSON = "kubernetes.io/dockerconfigjson"
OLD = "kubernetes.io/dockercfg"


def config(entries: dict[str, Any]) -> bytes:
    return json.dumps({"auths": entries}).encode()


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def keyring(*locations: str) -> Keyring:
    """Each location's credential has the location as its user name."""
    return Keyring((location, Credential(location, "p")) for location in locations)


def found(ring: Keyring, name: str) -> list[str]:
    return [credential.username for credential in ring.lookup(name)]


def test_both_kinds_of_secret_are_read() -> None:
    entries = {"r.example.com": {"username": "u", "password": "p"}}
    expected = [("r.example.com", Credential("u", "p"))]
    assert parse_docker_config(JSON, config(entries)) == expected
    assert parse_docker_config(OLD, json.dumps(entries).encode()) == expected


def test_the_auth_member_wins_and_its_password_may_hold_colons() -> None:
    entries = {"r": {"username": "x", "password": "y", **auth("user:a:b:c")}}
    assert parse_docker_config(JSON, config(entries)) == [("r", Credential("user", "a:b:c"))]


def test_auth_without_padding_is_read() -> None:
    entry = {"auth": base64.b64encode(b"user:pw").decode().rstrip("=")}
    assert parse_docker_config(JSON, config({"r": entry})) == [("r", Credential("user", "pw"))]


@pytest.mark.parametrize("entry", [{}, {"auth": "!!!"}, auth("no colon"), {"auth": "/w=="}, {"identitytoken": "t"}])
def test_entries_without_a_usable_credential_are_left_out(entry: dict[str, Any]) -> None:
    data = config({"bad": entry, "good": auth("u:p")})
    assert parse_docker_config(JSON, data) == [("good", Credential("u", "p"))]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (JSON, b""),
        (JSON, b"[]"),
        (JSON, b'{"auths": 3}'),
        (JSON, b'{"auths": {"r": {"auth": 3}}}'),
        (JSON, b"\xff"),
        (OLD, b'{"r": "x"}'),
        ("Opaque", b"{}"),
        (JSON, b" " * (MAX_DOCKER_CONFIG_BYTES + 1)),
        (JSON, config({f"r{number}": {} for number in range(1001)})),
    ],
)
def test_what_is_no_docker_configuration_is_refused(kind: str, data: bytes) -> None:
    with pytest.raises(BadDockerConfig):
        parse_docker_config(kind, data)


def test_a_refusal_quotes_nothing_of_the_secret() -> None:
    with pytest.raises(BadDockerConfig) as refusal:
        parse_docker_config(JSON, b'{"auths": {"r": "topsecret"}}')
    assert "topsecret" not in str(refusal.value)


def test_longer_paths_come_before_shorter_ones_and_all_that_match_are_tried() -> None:
    ring = keyring("r.example.com", "r.example.com/team", "r.example.com/team/app", "r.example.com/other")
    assert found(ring, "r.example.com/team/app") == [
        "r.example.com/team/app",
        "r.example.com/team",
        "r.example.com",
    ]
    assert found(ring, "r.example.com/third") == ["r.example.com"]


@pytest.mark.parametrize(
    ("location", "name", "matches"),
    [
        ("https://r.example.com/v1/", "r.example.com/app", True),
        ("https://r.example.com/v2/team/", "r.example.com/team/app", True),
        ("http://r.example.com", "r.example.com/app", True),
        ("R.Example.com", "r.example.com/app", True),
        ("*.example.com", "r.example.com/app", True),
        ("*.example.com", "a.r.example.com/app", False),
        ("*.example.com", "example.com/app", False),
        ("r*.example.com", "registry.example.com/app", True),
        ("r.example.com:5000", "r.example.com:5000/app", True),
        ("r.example.com:5000", "r.example.com/app", False),
        ("r.example.com", "r.example.com:5000/app", False),
        ("r.example.com", "r.example.com.evil.test/app", False),
        ("example.com", "r.example.com/app", False),
        ("[::1]:5000", "[::1]:5000/app", True),
        ("r.example.com/team", "r.example.com/teams", True),  # a plain prefix: the kubelet's own reading
        ("evil@r.example.com", "r.example.com/app", False),
        ("", "r.example.com/app", False),
        ("***.example.com", "r.example.com/app", False),
    ],
)
def test_a_location_matches_as_the_kubelet_matches_it(location: str, name: str, matches: bool) -> None:
    assert bool(found(keyring(location), name)) == matches


def test_docker_hub_is_found_under_its_old_name_too() -> None:
    assert found(keyring("https://index.docker.io/v1/"), "docker.io/library/nginx")
    assert found(keyring("docker.io"), "docker.io/library/nginx")
    assert not found(keyring("https://index.docker.io/v1/"), "quay.io/app")
    assert found(keyring("docker.io", "index.docker.io"), "docker.io/library/nginx") == ["docker.io"]


def test_several_credentials_for_one_location_keep_their_order() -> None:
    first, second = Credential("a", "1"), Credential("b", "2")
    ring = Keyring([("r.example.com", first), ("r.example.com", second), ("r.example.com", first)])
    assert ring.lookup("r.example.com/app") == (first, second)


def test_the_scope_depends_on_the_credentials_and_shows_none_of_them() -> None:
    one, other = (Credential("u", "p"),), (Credential("u", "q"),)
    assert scope_of(one) == scope_of((Credential("u", "p"),))
    assert len({scope_of(one), scope_of(other), scope_of(one + other), scope_of(other + one), scope_of(())}) == 5
    assert ANONYMOUS.lookup("r.example.com/app") == ()
    assert not ANONYMOUS
    assert "p" not in repr(Credential("u", "p"))[len("Credential") :]
