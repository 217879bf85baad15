"""Manifests, indexes and configs: one meaning each, or refused."""

import json
import tracemalloc
from typing import Any

import pytest

from countersign.registry.errors import MalformedError
from countersign.registry.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_INDEX_ENTRIES,
    OCI_INDEX,
    OCI_MANIFEST,
    parse_config,
    parse_manifest,
    verify_digest,
)

DIGEST = "sha256:" + "ab" * 32
CONFIG = {"digest": DIGEST}


def parse(**members: Any) -> Any:
    return parse_manifest(json.dumps({"schemaVersion": 2, **members}).encode(), DIGEST)


@pytest.mark.parametrize("media_type", ["", OCI_MANIFEST, DOCKER_MANIFEST])
def test_manifests_of_both_kinds_are_read(media_type: str) -> None:
    manifest = parse(mediaType=media_type, config=CONFIG, layers=[{"digest": DIGEST, "annotations": {"a": "b"}}])
    assert manifest.kind == "manifest"
    assert manifest.config.digest == DIGEST
    assert manifest.layers[0].annotation("a") == "b"
    assert manifest.layers[0].annotation("c") == ""


@pytest.mark.parametrize("media_type", ["", OCI_INDEX, DOCKER_LIST])
def test_indexes_of_both_kinds_are_read(media_type: str) -> None:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7"}
    index = parse(mediaType=media_type, manifests=[{"digest": DIGEST, "platform": platform, "annotations": None}])
    assert index.kind == "index"
    assert str(index.manifests[0].platform) == "linux/arm/v7"
    assert index.manifests[0].annotation("a") == ""


@pytest.mark.parametrize(
    "members",
    [
        {"schemaVersion": 1, "config": CONFIG},
        {},
        {"layers": []},
        {"manifests": [], "config": CONFIG},
        {"manifests": [], "layers": []},
        {"mediaType": OCI_INDEX, "config": CONFIG},
        {"mediaType": OCI_MANIFEST, "manifests": []},
        {"config": {"digest": "sha256:short"}},
        {"config": {"digest": "../../etc/passwd"}},
        {"config": CONFIG, "layers": [{"digest": "md5:" + "a" * 32}]},
        {"config": CONFIG, "subject": {"digest": ""}},
        {"manifests": [{"digest": DIGEST}] * (MAX_INDEX_ENTRIES + 1)},
        {"config": CONFIG, "layers": "x"},
    ],
)
def test_what_could_be_understood_in_two_ways_or_in_none_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse(**members)


@pytest.mark.parametrize(
    "text",
    [
        '{"schemaVersion": 2, "manifests": [{"digest": "%s"}], "Manifests": [{"digest": "%s"}]}',
        '{"schemaVersion": 2, "manifests": [{"digest": "%s", "Digest": "%s"}]}',
        '{"schemaVersion": 2, "manifests": [{"digest": "%s"}], "manife\u017fts": [{"digest": "%s"}]}',
        '{"schemaVersion": 2, "manifests": [{"digest": "%s"}], "Manifests": null, "Layers": [{"digest": "%s"}]}',
        '{"schemaVersion": 2, "manifests": [{"digest": "%s", "platform": {"os": "unknown", "OS": "linux"}}]}',
        '{"schemaVersion": 2, "manifests": [{"digest": "%s", "Platform": {"os": "linux"}}]}',
        '{"schemaVersion": 2, "config": {"digest": "%s"}, "layers": [{"digest": "%s", "DIGEST": ""}]}',
        '{"schemaVersion": 2, "config": {"digest": "%s"}, "Subject": {"digest": "%s"}}',
    ],
)
def test_a_member_that_a_runtime_would_take_for_another_is_refused(text: str) -> None:
    """Go's encoding/json, by which runtimes read, takes members in any case, and the last one of several."""
    filled = (text.replace("%s", DIGEST, 1).replace("%s", "sha256:" + "ee" * 32)).encode()
    with pytest.raises(MalformedError, match="only in upper and lower case"):
        parse_manifest(filled, DIGEST)


def test_annotations_may_have_any_names() -> None:
    config = {**CONFIG, "annotations": {"Digest": "x"}}
    assert parse(config=config, annotations={"Config": "x"}, newMember={"Layers": []}).kind == "manifest"


def test_a_member_given_twice_is_refused() -> None:
    with pytest.raises(MalformedError, match="twice"):
        parse_manifest(b'{"schemaVersion": 2, "config": null, "config": {"digest": "%s"}}' % DIGEST.encode(), DIGEST)


def test_a_config_tells_what_the_image_runs() -> None:
    config = parse_config(b'{"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/a"], "Cmd": null}}')
    assert (str(config.platform), config.entrypoint, config.cmd) == ("linux/amd64", ("/a",), ())
    assert parse_config(b"{}").entrypoint == ()
    config = parse_config(b'{"config": {"WorkingDir": "/app", "Env": ["PATH=/a", "X=PATH=", "PATH=/b:/usr/bin"]}}')
    assert (config.working_dir, config.path) == ("/app", ("/b", "/usr/bin"))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"config": {"Entrypoint": "/a"}}', b'{"config": {"Entrypoint": ["\\ud800"]}}']
)
def test_a_config_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_config(data)


def test_content_is_held_against_either_algorithm() -> None:
    verify_digest(b"", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    with pytest.raises(MalformedError):
        verify_digest(b"x", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    with pytest.raises(MalformedError):
        verify_digest(b"", "sha512:" + "ab" * 64)


@pytest.mark.parametrize("filler", [b"[],", b"{},", b'"",', b"1e1,"])
def test_a_document_of_a_million_values_takes_no_memory(filler: bytes) -> None:
    """A hundred bytes each, many at once: they would take all that the gate has."""
    many = filler * (3 * 1024 * 1024 // len(filler))
    manifest = b'{"schemaVersion": 2, "config": {"digest": "%s"}, "x": [%s0]}' % (DIGEST.encode(), many)
    config = b'{"os": "linux", "x": [%s0]}' % many
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError, match="values"):
            parse_manifest(manifest, DIGEST)
        with pytest.raises(MalformedError, match="values"):
            parse_config(config)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_longest_lists_that_are_read_may_have_annotations() -> None:
    described = {"digest": DIGEST, "size": 1, "annotations": {f"org.example.{n}": "a, b" for n in range(20)}}
    assert len(parse(manifests=[described] * MAX_INDEX_ENTRIES).manifests) == MAX_INDEX_ENTRIES
