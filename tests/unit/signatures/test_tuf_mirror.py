"""A mirror is believed as far as its signatures go, never backwards, and nobody but the mirror is asked."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from countersign.api.evidence_root import MAX_CONTENT_CHARACTERS, TUFMetadata, TUFSource
from countersign.signatures.roots.tuf_mirror import Refreshed, public_good_tuf_root, refresh
from tests.fakes.tuf_repository import MisbehavingMirror
from tests.lab.pki import CertificateAuthority

NOTHING = TUFMetadata()
_MEMBERS = ["signed", "signatures", "_type", "version", "expires", "keys", "roles", "meta", "targets", "spec_version"]
ONE, TWO = '{"content": "one"}', '{"content": "two"}\r\n'


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def repository(ca: CertificateAuthority, tmp_path: Path) -> Iterator[MisbehavingMirror]:
    with MisbehavingMirror(tmp_path, ca, ONE) as found:
        yield found


@pytest.fixture
def ask(repository: MisbehavingMirror, ca: CertificateAuthority) -> Any:
    def asked(after: Refreshed | None = None, **source: Any) -> Refreshed:
        given = {"mirror": repository.url, "root": repository.initial, "ca_bundle": ca.cert_file.read_text(), **source}
        before = after or Refreshed("", NOTHING)
        return refresh(TUFSource(**given), before.metadata, before.content)

    return asked


def version(metadata: str) -> int:
    return int(json.loads(metadata)["signed"]["version"])


def test_the_content_comes_with_the_metadata_that_says_so(ask: Any) -> None:
    found = ask()
    assert (found.content, found.trouble) == (ONE, None)
    assert [version(one) for one in (found.metadata.root, found.metadata.timestamp, found.metadata.targets)] == [
        1,
        1,
        1,
    ]


def test_what_is_known_is_not_fetched_again_and_what_is_new_is(ask: Any, repository: MisbehavingMirror) -> None:
    first = ask()
    repository.requests.clear()
    second = ask(first)
    assert second == first
    assert repository.requests == ["/2.root.json", "/timestamp.json"]
    repository.release(TWO)
    third = ask(second)
    assert third.content == TWO
    assert version(third.metadata.targets) == 2


def test_a_rotated_root_is_followed_and_kept(ask: Any, repository: MisbehavingMirror) -> None:
    first = ask()
    repository.rotate_root_key()
    repository.rotate("timestamp")
    repository.release(TWO)
    found = ask(first)
    assert found.content == TWO
    assert version(found.metadata.root) == 3
    del repository.files["/2.root.json"], repository.files["/3.root.json"]
    assert ask(found).content == TWO, "it does not need the roots between any more"


def test_a_root_that_the_one_before_did_not_sign_is_refused(ask: Any, repository: MisbehavingMirror) -> None:
    first = ask()
    repository.usurp()
    repository.release(TWO)
    found = ask(first)
    assert (found.content, found.trouble) == ("", "NotSigned")
    assert version(found.metadata.root) == 1


def test_what_another_key_signed_is_refused(ask: Any, repository: MisbehavingMirror) -> None:
    first = ask()
    repository.signed_by("timestamp", CryptoSigner.generate_ecdsa())
    repository.release(TWO)
    found = ask(first)
    assert (found.content, found.trouble) == ("", "NotSigned")
    assert found.metadata == first.metadata


def test_what_is_out_of_date_is_refused(ask: Any, repository: MisbehavingMirror) -> None:
    repository.release(TWO, expired=True)
    found = ask(ask())
    assert (found.content, found.trouble) == ("", "MetadataExpired")


def test_a_mirror_that_goes_back_is_refused_after_a_restart_too(ask: Any, repository: MisbehavingMirror) -> None:
    old = dict(repository.files)
    repository.release(TWO)
    newer = ask()
    assert newer.content == TWO
    repository.put_back(old)
    found = ask(newer)
    assert (found.content, found.trouble) == ("", "RolledBack")
    assert found.metadata.timestamp == newer.metadata.timestamp
    assert ask().content == ONE, "who has seen nothing newer cannot tell: that is why it is kept"


def test_a_key_that_was_taken_away_counts_no_more_though_the_refresh_failed(
    ask: Any, repository: MisbehavingMirror
) -> None:
    first = ask()
    stolen = repository.signer("timestamp")
    repository.rotate("timestamp")
    repository.signed_by("timestamp", stolen)
    repository.release(TWO)
    found = ask(first)
    assert found.trouble == "NotSigned"
    assert version(found.metadata.root) == 2, "what was verified on the way is kept"
    del repository.files["/2.root.json"]
    assert ask(found).trouble == "NotSigned", "hiding the new root brings the old key back to nobody"


def test_content_of_another_hash_is_refused(ask: Any, repository: MisbehavingMirror) -> None:
    for path in [path for path in repository.files if path.startswith("/targets/")]:
        repository.files[path] = b'{"content": "0ne"}'
    found = ask()
    assert (found.content, found.trouble) == ("", "BadRepository")


def test_a_mirror_that_is_down_cannot_be_asked(ask: Any, repository: MisbehavingMirror) -> None:
    first = ask()
    repository.close()
    found = ask(first)
    assert (found.content, found.trouble, found.metadata) == ("", "MirrorUnreachable", first.metadata)
    assert repository.url in found.problem


def test_a_mirror_of_another_certificate_authority_is_not_asked(ask: Any, repository: MisbehavingMirror) -> None:
    assert ask(ca_bundle="").trouble == "MirrorUnreachable"
    assert ask(ca_bundle="-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n").trouble == "BadCABundle"
    assert repository.requests == []


def test_a_redirect_is_not_followed(
    ask: Any, repository: MisbehavingMirror, ca: CertificateAuthority, tmp_path: Path
) -> None:
    with MisbehavingMirror(tmp_path / "other", ca, ONE) as other:
        repository.redirect_to = other.url
        found = ask()
        assert (found.content, found.trouble) == ("", "MirrorUnreachable")
        assert other.requests == []


def test_what_is_no_root_of_trust_is_said_to_be_none(ask: Any, repository: MisbehavingMirror) -> None:
    for root in ("{}", '{"signed": ' * 40000, repository.initial.replace('"version":1', '"version":7')):
        assert ask(root=root).trouble == "BadInitialRoot"
    assert repository.requests == []


def test_a_target_that_is_missing_or_too_large_is_not_taken(ask: Any, repository: MisbehavingMirror) -> None:
    found = ask(target_name="other.json")
    assert (found.trouble, found.content) == ("NoSuchTarget", "")
    repository.requests.clear()
    repository.release("x" * (MAX_CONTENT_CHARACTERS + 1))
    assert ask().trouble == "NoSuchTarget"
    assert not [path for path in repository.requests if path.startswith("/targets/")]


def test_a_target_of_another_name_is_found(ask: Any, repository: MisbehavingMirror) -> None:
    repository.release(TWO, name="inner.json")
    first = ask(target_name="inner.json")
    assert first.content == TWO
    assert ask(first, target_name="inner.json") == first


@pytest.mark.parametrize("role", ["/timestamp.json", "/1.snapshot.json", "/1.targets.json", "/2.root.json"])
def test_bytes_without_end_and_nests_without_bottom_are_refused(
    ask: Any, repository: MisbehavingMirror, role: str
) -> None:
    repository.files[role] = b"[" * 1_000_000
    assert ask().trouble in {"MirrorUnreachable", "BadRepository"}
    repository.files[role] = b"[" * 16_000
    assert ask().trouble == "BadRepository"


def test_who_no_longer_waits_ends_it(ask: Any, repository: MisbehavingMirror, ca: CertificateAuthority) -> None:
    stop = threading.Event()
    stop.set()
    source = TUFSource(mirror=repository.url, root=repository.initial, ca_bundle=ca.cert_file.read_text())
    assert refresh(source, NOTHING, "", stop=stop).trouble == "MirrorUnreachable"
    assert repository.requests == []


def test_the_time_for_all_of_it_is_bounded(repository: MisbehavingMirror, ca: CertificateAuthority) -> None:
    source = TUFSource(mirror=repository.url, root=repository.initial, ca_bundle=ca.cert_file.read_text())
    times = iter(range(0, 10_000, 25))
    found = refresh(source, NOTHING, "", clock=lambda: float(next(times)))
    assert found.trouble == "MirrorUnreachable"
    assert "60 s" in found.problem
    assert len(repository.requests) <= 3


def test_what_is_signed_and_not_utf_8_is_refused(ask: Any, repository: MisbehavingMirror) -> None:
    timestamp = repository.files["/timestamp.json"]
    repository.files["/timestamp.json"] = timestamp.decode().encode("utf-16")
    assert ask().trouble == "BadRepository"
    repository.publish({"trusted_root.json": b"\xff\xfe"})
    assert ask().trouble == "BadRepository"


def test_without_a_folder_for_temporary_files_it_says_so(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert ask().trouble == "NoFolder"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_MEMBERS), inner, max_size=4),
    max_leaves=8,
)


@given(
    path=st.sampled_from(["/timestamp.json", "/1.snapshot.json", "/1.targets.json", "/2.root.json"]),
    served=st.binary(max_size=64) | _JSON.map(lambda value: json.dumps(value).encode()),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_mirror_serves_it_is_refused_and_what_was_seen_stays(
    ask: Any, repository: MisbehavingMirror, path: str, served: bytes
) -> None:
    good = dict(repository.files)
    repository.files[path] = served
    try:
        found = ask()
    finally:
        repository.put_back(good)
    assert (found.content, found.trouble is None) == ("", False)
    assert found.trouble != "BadInitialRoot"


def test_the_public_good_root_is_there_without_the_network() -> None:
    assert json.loads(public_good_tuf_root())["signed"]["_type"] == "root"
