"""Registry credentials from pull secrets, chosen for an image as the kubelet chooses them.

Source: kubernetes pkg/credentialprovider (config.go, keyring.go). A difference would refuse what the kubelet can pull,
or the reverse; so the order (longest key first), the globs in host parts and the plain prefix match of paths are the
same.
"""

import base64
import binascii
import fnmatch
import hashlib
import os
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

MAX_DOCKER_CONFIG_BYTES: Final = 1024 * 1024  # a Secret's limit (core/v1 MaxSecretSize)
MAX_ENTRIES: Final = 1000
"""Registries in one pull secret. More than any real one; matching is linear in them."""

SecretType = Literal["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"]

_DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_KEY: Final = "index.docker.io"
_SCOPE_KEY: Final = os.urandom(32)


class BadDockerConfig(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """A pull secret's data is not a docker configuration. The message quotes nothing of it."""


class Credential(msgspec.Struct, frozen=True):
    """A user name and password for a registry, or an empty pair, which is no credential at all."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.username!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Entry(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""


class _DockerConfig(msgspec.Struct):
    auths: dict[str, _Entry] = {}


class _Key(msgspec.Struct, frozen=True):
    text: str
    host_parts: tuple[str, ...]
    port: str
    path: str


class Keyring:
    """The credentials of one pod: what its pull secrets hold. Immutable."""

    def __init__(self, entries: Iterable[tuple[str, Credential]] = ()) -> None:
        """`entries`: registry (as in a docker configuration: host, host/path or URL) and credential."""
        keyed: list[tuple[_Key, Credential]] = []
        for location, credential in entries:
            key = _parse_location(location)
            if key is not None and (key, credential) not in keyed:
                keyed.append((key, credential))
        # Reverse order of the text puts longer keys before their prefixes, and names before wildcards.
        self._entries = tuple(sorted(keyed, key=lambda entry: entry[0].text, reverse=True))

    def __bool__(self) -> bool:
        return bool(self._entries)

    def lookup(self, name: str) -> tuple[Credential, ...]:
        """Credentials for an image `registry/repository`, in the order in which to try them; empty: anonymous."""
        if not self._entries:
            return ()
        host, _, path = name.partition("/")
        found = [credential for key, credential in self._entries if _matches(key, host, "/" + path)]
        if not found and host == _DOCKER_HUB:
            found = [credential for key, credential in self._entries if key.text == _DOCKER_HUB_KEY]
        return tuple(dict.fromkeys(found))


ANONYMOUS: Final = Keyring()


def scope_of(credentials: tuple[Credential, ...]) -> str:
    """A name for what these credentials may see, for cache keys: the same for the same list, and telling nothing of it.

    Keyed by a secret of this process, so that it cannot be used to guess a password. Empty for no credentials.
    """
    if not credentials:
        return ""
    digest = hashlib.blake2b(key=_SCOPE_KEY, digest_size=16)
    digest.update(msgspec.msgpack.encode(credentials))
    return digest.hexdigest()


def parse_docker_config(kind: str, data: bytes) -> list[tuple[str, Credential]]:
    """Read a pull secret: its type and the bytes of `.dockerconfigjson` or `.dockercfg`.

    Entries without a user name or password, and those that cannot be decoded, are left out. Raises BadDockerConfig.
    """
    if len(data) > MAX_DOCKER_CONFIG_BYTES:
        raise BadDockerConfig(f"the pull secret is larger than {MAX_DOCKER_CONFIG_BYTES} bytes")
    try:
        if kind == "kubernetes.io/dockerconfigjson":
            auths = msgspec.json.decode(data, type=_DockerConfig).auths
        elif kind == "kubernetes.io/dockercfg":
            auths = msgspec.json.decode(data, type=dict[str, _Entry])
        else:
            raise BadDockerConfig(f"a secret of type {kind[:100]!r} holds no registry credentials")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadDockerConfig("the pull secret is no docker configuration in JSON") from None
    if len(auths) > MAX_ENTRIES:
        raise BadDockerConfig(f"the pull secret names more than {MAX_ENTRIES} registries")
    entries = ((location, _credential(entry)) for location, entry in auths.items())
    return [(location, credential) for location, credential in entries if credential is not None]


def _credential(entry: _Entry) -> Credential | None:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            padded = entry.auth + "=" * (-len(entry.auth) % 4)
            username, colon, password = base64.b64decode(padded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if not colon:
            return None
    return Credential(username, password) if username or password else None


def _parse_location(location: str) -> _Key | None:
    rest = location.removeprefix("https://").removeprefix("http://")
    authority, _, path = rest.partition("/")
    path = "/" + path if path else ""
    if path.startswith(("/v1/", "/v2/")) or path in ("/v1", "/v2"):
        path = path[3:]
    if path == "/":
        path = ""
    authority = authority.lower()
    if not authority or "@" in authority:
        return None
    host, port = _split_port(authority)
    return _Key(authority + path, tuple(host.split(".")), port, path)


def _matches(key: _Key, authority: str, path: str) -> bool:
    host, port = _split_port(authority)
    parts = host.split(".")
    return (
        port == key.port
        and len(parts) == len(key.host_parts)
        and path.startswith(key.path)
        and all(_part_matches(pattern, part) for pattern, part in zip(key.host_parts, parts, strict=True))
    )


def _part_matches(pattern: str, part: str) -> bool:
    # fnmatch's translation of `*` is linear in practice only for few stars; more than one per part is never needed.
    if "*" not in pattern and "?" not in pattern:
        return pattern == part
    return pattern.count("*") <= 2 and fnmatch.fnmatchcase(part, pattern)


def _split_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, _, port = authority.partition("]")
        return host + "]", port.removeprefix(":")
    host, _, port = authority.partition(":")
    return host, port
