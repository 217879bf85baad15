"""What a registry says around its content: documents that were damaged, links, redirects, challenges, lists."""

import contextlib
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from countersign.gate.evidence.places import (
    MAX_CANDIDATES,
    PREDICATE_TYPE_ANNOTATION,
    form_of,
    layers_to_examine,
    worth_fetching,
)
from countersign.registry.addresses import AddressPolicy
from countersign.registry.auth import Authenticator
from countersign.registry.client import _next_page
from countersign.registry.credentials import BadDockerConfig, Credential, parse_docker_config
from countersign.registry.errors import AddressDeniedError, MalformedError, RegistryError, UnauthorizedError
from countersign.registry.manifest import Descriptor, parse_config, parse_manifest
from countersign.registry.status import error_for
from countersign.registry.transport import Answer, Transport
from countersign.trust.images.reference import is_digest
from tests.fakes.registry import OCI_INDEX, OCI_MANIFEST

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha512:" + "cd" * 64
BASE = URL("https://registry.example.com:5000")
SECRET = Credential("somebody", "hunter2")
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": DIGEST, "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": OTHER, "size": 7, "annotations": {"a": "b"}}],
        "subject": {"digest": DIGEST, "size": 1},
    }
).encode()
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"digest": DIGEST, "size": 1, "platform": {"os": "linux", "architecture": "arm64"}}],
    }
).encode()
CONFIG = json.dumps(
    {"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/a"], "Cmd": None, "Env": ["PATH=/bin:/b"]}}
).encode()
PULL_SECRET = b'{"auths": {"https://registry.example.com/v1/": {"auth": "YTpi"}, "r.example.com/x": {"username": "u"}}}'

_hosts = st.sampled_from(
    ["registry.example.com", "registry.example.com:5000", "127.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]",
     "0x7f.1", "2130706433", "evil.example", "a@evil.example", "evil.example:99999", "\N{FULLWIDTH DIGIT ONE}27.0.0.1"]
)  # fmt: skip
_urls = st.text(max_size=60) | st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "//", "", "file://", "HTTPS:", "gopher://", "\\\\", "/\\"]),
    _hosts | st.text(max_size=20),
    st.sampled_from(["", "/", "/v2/", "\\", "?", "#", "/../..", "%00", "\t", "//"]),
    st.text(max_size=20),
)


@st.composite
def _damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with up to three pieces taken out, put in or repeated."""
    damaged = data
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(damaged)))
        end = draw(st.integers(start, min(len(damaged), start + 40)))
        new = draw(st.binary(max_size=6) | st.sampled_from([b"null", b"{}", b"[]", b'"', b"1e999", b"\\ud800", b","]))
        damaged = damaged[:start] + (damaged[start:end] if draw(st.booleans()) else b"") + new + damaged[end:]
    return damaged


def _answer(status: int = 200, url: URL = BASE, **headers: str) -> Answer:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(url, status, CIMultiDictProxy(CIMultiDict(pairs)), b"")


@given(_damaged(MANIFEST) | _damaged(INDEX))
def test_a_damaged_manifest_is_one_thing_or_refused(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        found = parse_manifest(data, DIGEST)
        assert (found.kind == "index") == (found.config is None)
        assert not (found.manifests and found.layers)
        every = (*found.layers, *found.manifests, *([found.config] if found.config else ()))
        assert all(is_digest(one.digest) for one in every)


@given(_damaged(CONFIG))
def test_a_damaged_config_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        found = parse_config(data)
        assert all(isinstance(word, str) for word in (*found.entrypoint, *found.cmd, *found.path))


@given(st.sampled_from(["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"]), _damaged(PULL_SECRET))
def test_a_damaged_pull_secret_is_read_or_refused_and_quoted_by_nobody(kind: str, data: bytes) -> None:
    refusal = ""
    try:
        for _, credential in parse_docker_config(kind, data):
            credential.basic.encode("ascii")
    except BadDockerConfig as error:
        refusal = str(error)
    assert "YTpi" not in refusal


@given(_urls)
@example("//registry.example.com:5000/v2/x?n=1")
@example("0:")
def test_the_next_page_is_at_the_registry_or_nowhere(target: str) -> None:
    page = _next_page(_answer(Link=f'<{target}>; rel="next"'), BASE)
    assert page is None or page.origin() == BASE.origin()


@given(_urls, st.booleans())
def test_a_redirect_leads_to_a_host_over_https_or_nowhere(location: str, insecure: bool) -> None:
    transport = Transport(insecure_hosts=["registry.example.com"] if insecure else [])
    for scheme in ("https", "http"):
        with contextlib.suppress(MalformedError):
            target = transport._redirect_target(URL(f"{scheme}://registry.example.com/v2/"), location)
            assert target.host
            assert (target.user, target.password) == (None, None)
            assert target.scheme == "https" or (insecure and scheme == "http" and target.host == "registry.example.com")
            assert target.origin()
            with contextlib.suppress(AddressDeniedError):
                AddressPolicy().check_literal(target.host, target.port or 0)


@given(st.lists(st.builds('Bearer realm="{}",service="{}",scope="{}"'.format, _urls, _urls, _urls) | _urls, max_size=3))
def test_credentials_go_to_the_registrys_own_host_or_nowhere(headers: list[str]) -> None:
    for way in _ways(headers, (SECRET,)):
        assert way.credential == SECRET
        if way.scheme == "bearer":
            realm = URL(way.realm)
            assert (realm.scheme, realm.host) == ("https", BASE.host)
            assert not realm.user
    assert all(way.credential is None for way in _ways(headers, ()))


def _ways(headers: list[str], credentials: tuple[Credential, ...]) -> list[Any]:
    with contextlib.suppress(UnauthorizedError):
        return list(Authenticator().ways(BASE, "team/app", headers, credentials))
    return []


@given(st.integers(100, 999).filter(lambda status: status != 200), st.text(max_size=60))
def test_any_status_is_an_error_that_says_whether_it_may_mend(status: int, retry_after: str) -> None:
    error = error_for(_answer(status, Retry_After=retry_after), "image x")
    assert isinstance(error, RegistryError)
    assert error.transient == (status in (408, 429) or status >= 500)


_descriptors = st.builds(
    Descriptor,
    digest=st.integers(0, 400).map(lambda number: f"sha256:{number:064x}"),
    size=st.integers(-1, 2**70),
    media_type=st.sampled_from(["", "text/plain", "application/vnd.dsse.envelope.v1+json"]) | st.text(max_size=9),
    artifact_type=st.sampled_from(["", "application/vnd.dev.sigstore.bundle.v0.3+json"]) | st.text(max_size=9),
    annotations=st.none()
    | st.dictionaries(st.sampled_from([PREDICATE_TYPE_ANNOTATION, "a"]), st.sampled_from(["", "k", "x"])),
)


@given(st.lists(_descriptors, max_size=40), st.integers(1, 20), st.binary(max_size=60))
def test_of_any_list_so_many_are_looked_at_and_none_twice(some: list[Descriptor], times: int, data: bytes) -> None:
    several = some * times
    chosen = worth_fetching(several, {"k"})
    assert len({one.digest for one in chosen}) == len(chosen) <= MAX_CANDIDATES
    assert all(one.annotation(PREDICATE_TYPE_ANNOTATION) != "x" for one in chosen)
    layers = layers_to_examine(several)
    assert sum(map(len, layers.values())) <= MAX_CANDIDATES
    for one in some:
        assert form_of(one, data) in (None, "bundle", "dsse", "simple-signing")
