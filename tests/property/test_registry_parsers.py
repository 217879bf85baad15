"""Whatever bytes a registry or a pull secret holds: a typed answer, or a typed refusal."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from countersign.registry.challenge import parse_challenges
from countersign.registry.credentials import BadDockerConfig, Credential, Keyring, parse_docker_config
from countersign.registry.errors import MalformedError
from countersign.registry.manifest import parse_config, parse_manifest
from countersign.registry.status import MAX_RETRY_AFTER_SECONDS, retry_after
from countersign.trust.images.reference import is_digest

DIGEST = "sha256:" + "ab" * 32
_kinds = st.sampled_from(["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg", "Opaque"])
_leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just(DIGEST)
_names = st.sampled_from(
    ["schemaVersion", "mediaType", "manifests", "layers", "config", "digest", "platform", "os", "annotations", "auths",
     "auth", "username", "Entrypoint", "subject", "size"]
)  # fmt: skip
_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=6), max_leaves=25
)
_documents = st.binary(max_size=300) | _json.map(lambda value: json.dumps(value).encode())


@given(_documents)
def test_manifests(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        manifest = parse_manifest(data, DIGEST)
        assert (manifest.kind == "index") == (manifest.config is None)
        assert all(is_digest(descriptor.digest) for descriptor in (*manifest.layers, *manifest.manifests))


@given(_json)
def test_manifests_with_a_version(value: Any) -> None:
    if isinstance(value, dict):
        test_manifests.hypothesis.inner_test(json.dumps({**value, "schemaVersion": 2}).encode())  # type: ignore[attr-defined]


@given(_documents)
def test_configs(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        config = parse_config(data)
        for word in (*config.entrypoint, *config.cmd):
            word.encode()


@given(_kinds, _documents)
def test_pull_secrets(kind: str, data: bytes) -> None:
    with contextlib.suppress(BadDockerConfig):
        entries = parse_docker_config(kind, data)
        for credential in Keyring(entries).lookup("docker.io/library/nginx"):
            credential.basic.encode("ascii")


@given(st.lists(st.text(max_size=30), max_size=6), st.text(max_size=40))
def test_any_location_and_image_name_can_be_held_against_each_other(locations: list[str], name: str) -> None:
    ring = Keyring((location, Credential(str(number), "p")) for number, location in enumerate(locations))
    found = ring.lookup(name)
    assert len(found) == len(set(found)) <= len(locations)


@given(st.lists(st.text(max_size=200) | st.text('Bearer realm="\\,=', max_size=100), max_size=3))
def test_challenges(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower() != ""


@given(st.text(max_size=40) | st.integers().map(str) | st.datetimes().map(lambda d: d.strftime("%a, %d %b %Y %X GMT")))
def test_retry_after(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_SECONDS
