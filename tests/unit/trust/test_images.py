"""One extractor finds every image of a pod."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
import pytest

from countersign.api.pod import Pod, PodSpec
from countersign.trust.images.extraction import all_containers, changed, extract, image_name, read_reference
from tests.unit.trust.build import container, pod


def test_containers_init_ephemeral_and_image_volumes_are_found_with_their_pointers() -> None:
    found = extract(
        pod(
            container("a", "one"),
            container("b", "two"),
            initContainers=[container("init", "three")],
            ephemeralContainers=[container("debug", "four")],
            volumes=[{"name": "data", "emptyDir": {}}, {"name": "model", "image": {"reference": "five"}}],
        )
    )
    assert [(use.container, use.kind, use.image, use.pointer) for use in found] == [
        ("a", "container", "one", "/spec/containers/0/image"),
        ("b", "container", "two", "/spec/containers/1/image"),
        ("init", "init", "three", "/spec/initContainers/0/image"),
        ("debug", "ephemeral", "four", "/spec/ephemeralContainers/0/image"),
        ("volume/model", "volume", "five", "/spec/volumes/1/image/reference"),
    ]


def test_an_image_volume_without_a_reference_is_found_too() -> None:
    assert extract(pod(volumes=[{"name": "model", "image": {}}]))[-1].image == ""


def _sample(kind: Any, path: str, texts: dict[str, str]) -> Any:
    """An instance of a model type in which every member called `image` or `reference` holds a text of its own."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _sample(arguments[0], path, texts)
    if origin in (typing.Union, types.UnionType):
        return _sample(next(one for one in arguments if one is not type(None)), path, texts)
    if origin is tuple:
        return (_sample(arguments[0], f"{path}/0", texts),)
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return msgspec.UNSET
    members = {}
    for field in msgspec.structs.fields(kind):
        below = f"{path}/{field.encode_name}"
        if field.name in ("image", "reference") and field.type is str:
            members[field.name] = texts[below] = f"image-{len(texts)}"
            continue
        value = _sample(field.type, below, texts)
        if value is not msgspec.UNSET and value != (msgspec.UNSET,):
            members[field.name] = value
        elif field.required:
            members[field.name] = "name"
    return kind(**members)


def test_every_member_of_the_model_that_names_an_image_is_extracted() -> None:
    """Fails when the pod model learns of a new place for an image that the extractor does not look at."""
    texts: dict[str, str] = {}
    spec = _sample(PodSpec, "/spec", texts)
    assert {use.pointer: use.image for use in extract(Pod(spec=spec))} == texts
    assert len(texts) == 4


def test_an_update_brings_in_only_what_it_changes() -> None:
    old = pod(container("a", "one"), container("b", "two"))
    new = pod(container("a", "one"), container("b", "three"), ephemeralContainers=[container("debug", "one")])
    assert [(use.container, use.image) for use in changed(old, new)] == [("b", "three"), ("debug", "one")]
    assert changed(new, new) == ()


def test_all_containers_lists_ephemeral_ones_too() -> None:
    spec = pod(container("a"), initContainers=[container("i")], ephemeralContainers=[container("e")]).spec
    assert [each.name for each in all_containers(spec)] == ["a", "i", "e"]


@pytest.mark.parametrize("image", ["", "UPPER/case", "a" * 5000])
def test_what_is_no_reference_is_explained_and_has_no_name(image: str) -> None:
    problem = read_reference(image)
    assert isinstance(problem, str)
    assert "is not an image reference" in problem
    assert image_name(image) is None
