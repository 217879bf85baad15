"""Image references against the grammar: what is well-formed survives, everything else is refused in good order."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from countersign.trust.images.reference import MAX_REFERENCE_LENGTH, BadReference, ImageReference

_LOWER = string.ascii_lowercase + string.digits
_HEX = "0123456789abcdef"

_words = st.text(_LOWER, min_size=1, max_size=8)
_separators = st.sampled_from([".", "_", "__", "-", "--", "-----"])


@st.composite
def _components(draw: st.DrawFn) -> str:
    text = draw(_words)
    for separator in draw(st.lists(_separators, max_size=3)):
        text += separator + draw(_words)
    return text


_ports = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
_labels = st.from_regex(r"\A[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?\Z")
_names = st.lists(_labels, min_size=2, max_size=4).map(".".join)
_v6 = st.ip_addresses(v=6).filter(lambda address: "." not in str(address)).map(lambda address: f"[{address}]")
_registries = st.one_of(
    st.just(""),
    st.sampled_from(["docker.io", "index.docker.io", "localhost", "LOCALHOST"]),
    st.tuples(st.one_of(_names, st.ip_addresses(v=4).map(str), _v6), _ports).map("".join),
    st.integers(1, 65535).map(lambda port: f"registry:{port}"),
)
_tags = st.one_of(st.just(""), st.from_regex(r"\A:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"))
_digests = st.one_of(
    st.just(""),
    st.text(_HEX, min_size=64, max_size=64).map("@sha256:{}".format),
    st.text(_HEX, min_size=128, max_size=128).map("@sha512:{}".format),
)


@st.composite
def _references(draw: st.DrawFn) -> tuple[str, str, str, str]:
    registry = draw(_registries)
    path = "/".join(draw(st.lists(_components(), min_size=1, max_size=4)))
    return registry, path, draw(_tags), draw(_digests)


@given(_references())
def test_a_well_formed_reference_keeps_its_parts_and_has_a_stable_normal_form(
    parts: tuple[str, str, str, str],
) -> None:
    registry, path, tag, digest = parts
    text = (f"{registry}/" if registry else "") + path + tag + digest
    assume(registry or not _looks_like_a_host(path))
    parsed = ImageReference.parse(text)

    assert parsed.repository in (path, f"library/{path}")
    assert parsed.digest == (digest[1:] or None)
    assert parsed.tag == (tag[1:] or (None if digest else "latest"))
    assert ImageReference.parse(str(parsed)) == parsed
    assert str(ImageReference.parse(str(parsed))) == str(parsed)
    assert parsed.registry == parsed.registry.lower()


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    _parse_or_refuse(text)


@given(st.text(_LOWER + "AZ._-:/@[]sha256", max_size=120))
def test_any_text_of_the_grammars_own_characters_is_parsed_or_refused(text: str) -> None:
    _parse_or_refuse(text)


@given(_references(), st.integers(0, 60), st.sampled_from([*" \n\t\0%?#\\", "é", "//", "@", ":", ".."]))
def test_a_well_formed_reference_with_something_put_in_never_keeps_a_strange_character(
    parts: tuple[str, str, str, str], position: int, insertion: str
) -> None:
    registry, path, tag, digest = parts
    text = (f"{registry}/" if registry else "") + path + tag + digest
    _parse_or_refuse(text[:position] + insertion + text[position:])


def _parse_or_refuse(text: str) -> None:
    try:
        parsed = ImageReference.parse(text)
    except BadReference:
        return
    assert ImageReference.parse(str(parsed)) == parsed
    assert set(str(parsed)) <= set(string.ascii_letters + string.digits + "._-:/@[]")
    assert ".." not in str(parsed).replace(parsed.tag or "..", "")
    assert "//" not in str(parsed)


def _looks_like_a_host(path: str) -> bool:
    first, slash, _ = path.partition("/")
    return bool(slash) and ("." in first or first == "localhost")


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("Index.Docker.IO/team/app", "docker.io/team/app:latest"),
        ("team/app", "docker.io/team/app:latest"),
        ("example.com:5000", "docker.io/library/example.com:5000"),
        ("localhost/app", "localhost/app:latest"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("REGISTRY.example.com/app", "registry.example.com/app:latest"),
        (f"example.com/a/b/c:v1@{DIGEST}", f"example.com/a/b/c:v1@{DIGEST}"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        ("[2001:DB8:0:0::1]:5000/app", "[2001:db8::1]:5000/app:latest"),
        ("[::1]/app", "[::1]/app:latest"),
        ("10.0.0.1:443/app", "10.0.0.1:443/app:latest"),
    ],
)
def test_the_normal_form_is_that_of_the_runtimes(text: str, normal: str) -> None:
    assert str(ImageReference.parse(text)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a" * 64,
        "App",
        "example.com/App",
        "Team/app",
        "example.com/app:",
        "example.com/app@",
        "example.com/app@sha256:abc",
        "example.com/app@sha256:" + "A" * 64,
        "example.com/app@md5:" + "a" * 32,
        f"example.com/app@{DIGEST}@{DIGEST}",
        "example.com/app:a:b",
        "example.com/app:" + "t" * 129,
        "example.com//app",
        "example.com/app/",
        "example.com/../app",
        "example.com/a..b",
        "example.com/a___b",
        "example.com./app",
        "-example.com/app",
        "example.com:0/app",
        "example.com:65536/app",
        "example.com:0443/app",
        "example.com:/app",
        "user@example.com/app",
        "https://example.com/app",
        "[::1/app",
        "[::1]5000/app",
        "[fe80::1%eth0]/app",
        "[::ffff:1.2.3.4]/app",
        "example.com/app\n",
        "example.com/\uff41pp",
        "x" * (MAX_REFERENCE_LENGTH + 1),
        "example.com/" + "a" * 256,
    ],
)
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(BadReference):
        ImageReference.parse(text)


def test_pinning_keeps_the_tag_for_people_and_adds_the_digest() -> None:
    pinned = ImageReference.parse("nginx:1.27").with_digest(DIGEST)
    assert str(pinned) == f"docker.io/library/nginx:1.27@{DIGEST}"
    with pytest.raises(BadReference):
        pinned.with_digest("sha256:short")


def test_a_refusal_does_not_repeat_a_huge_text() -> None:
    with pytest.raises(BadReference) as refusal:
        ImageReference.parse("x" * 1_000_000)
    assert len(str(refusal.value)) < 300
