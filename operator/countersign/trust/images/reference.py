"""Image references: the grammar and the normal form of the container runtimes.

Source: github.com/distribution/reference (reference.go, normalize.go), which containerd and CRI-O use. Two deliberate
differences, both on the strict side, so that one image has one name: hosts are put in lower case (DNS knows no case,
and a policy's glob must not be dodged by writing `REGISTRY.example.com`), and ports carry no leading zeros.
"""

import ipaddress
import re
from typing import Final

import msgspec

MAX_REFERENCE_LENGTH: Final = 1024
"""Longer text is refused unread; the longest well-formed reference is shorter (sum of the limits below)."""
MAX_HOST_LENGTH: Final = 253  # RFC 1035, section 2.3.4, as text
MAX_REPOSITORY_LENGTH: Final = 255  # distribution/reference: RepositoryNameTotalLengthMax
DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"

_LEGACY_DEFAULT_REGISTRY: Final = "index.docker.io"
_OFFICIAL_PREFIX: Final = "library/"

# Each pattern is matched against one part, anchored at both ends, and has one way only to match a text: linear time.
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_PATH_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BadReference(ValueError):  # noqa: N818 - the condition, as the standard library names its own
    """The text is not an image reference. The message quotes it and says which rule it breaks."""

    def __init__(self, text: str, problem: str) -> None:
        """`problem` is a phrase such as "the tag is empty"."""
        shown = text if len(text) <= 120 else text[:117] + "..."
        super().__init__(f"{shown!r} is not an image reference: {problem}")


class ImageReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reference in normal form. Make it with `parse`; `str()` gives the fully qualified text."""

    registry: str
    """Host in lower case, with its port where one is written; `docker.io` for Docker Hub."""
    repository: str
    tag: str | None
    """`latest` where the text has neither tag nor digest."""
    digest: str | None
    """`sha256:<64 hex>` or `sha512:<128 hex>`. With a tag beside it the digest alone decides; the tag is for people."""

    @classmethod
    def parse(cls, text: str) -> "ImageReference":
        """Read a reference as a pod's author writes it. Raises BadReference."""
        if len(text) > MAX_REFERENCE_LENGTH:
            raise BadReference(text, f"it is longer than {MAX_REFERENCE_LENGTH} characters")
        if _IDENTIFIER.fullmatch(text):
            raise BadReference(text, "64 hexadecimal digits are an image ID; write repository@sha256:<digits>")
        registry, remainder = _split_registry(text)
        remainder, at, digest = remainder.partition("@")
        repository, colon, tag = remainder.partition(":")
        if at and not is_digest(digest):
            raise BadReference(text, "the digest must be sha256:<64 lower-case hex> or sha512:<128 lower-case hex>")
        if colon and not _TAG.fullmatch(tag):
            raise BadReference(text, "a tag is a letter, digit or _, then up to 127 of these, dots and dashes")
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = _OFFICIAL_PREFIX + repository
        if len(repository) > MAX_REPOSITORY_LENGTH:
            raise BadReference(text, f"the repository is longer than {MAX_REPOSITORY_LENGTH} characters")
        if not all(_PATH_COMPONENT.fullmatch(part) for part in repository.split("/")):
            raise BadReference(
                text,
                "the repository must be lower-case letters and digits, "
                "joined by `.`, `_`, `__` or dashes, in parts divided by single slashes",
            )
        implied_tag = None if digest else DEFAULT_TAG
        return cls(registry, repository, tag or implied_tag, digest or None)

    @property
    def name(self) -> str:
        """`registry/repository`: what policies match and facts are about."""
        return f"{self.registry}/{self.repository}"

    def with_digest(self, digest: str) -> "ImageReference":
        """The same image pinned. The tag stays for people to read: runtimes go by the digest. Raises BadReference."""
        if not is_digest(digest):
            raise BadReference(f"{self}@{digest}", "the digest is malformed")
        return ImageReference(self.registry, self.repository, self.tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def is_digest(text: str) -> bool:
    """Whether the text is a digest with an algorithm that runtimes verify (OCI image specification, descriptor)."""
    return _DIGEST.fullmatch(text) is not None


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    # Without a slash it is a Docker Hub name, whatever it looks like: `example.com:5000` is an image and a tag.
    is_host = bool(slash) and (first == "localhost" or "." in first or ":" in first or first != first.lower())
    if not is_host:
        return DEFAULT_REGISTRY, text
    registry = _normal_host(text, first.lower())
    return (DEFAULT_REGISTRY if registry == _LEGACY_DEFAULT_REGISTRY else registry), rest


def _normal_host(text: str, authority: str) -> str:
    if authority.startswith("["):
        literal, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise BadReference(text, "an IPv6 address is written as [address] or [address]:port")
        host, colon, port = f"[{_ipv6(text, literal)}]", port[:1], port[1:]
    else:
        host, colon, port = authority.partition(":")
        if len(host) > MAX_HOST_LENGTH or not all(_HOST_LABEL.fullmatch(label) for label in host.split(".")):
            raise BadReference(text, "the registry is not a host name")
        if not colon and "." not in host and host != "localhost":
            # The runtimes take `Team/app` for a host `Team`; in lower case it would be read as Docker Hub's team/app.
            raise BadReference(text, "a registry without a dot needs a port, and a repository must be lower-case")
    if colon and (not _PORT.fullmatch(port) or int(port) > 65535):
        raise BadReference(text, "the registry's port must be a number from 1 to 65535")
    return host + colon + port


def _ipv6(text: str, literal: str) -> str:
    try:
        address = ipaddress.IPv6Address(literal)
    except ValueError:
        raise BadReference(text, "the registry is not an IPv6 address") from None
    if address.scope_id is not None or "." in literal:
        raise BadReference(text, "zone identifiers and embedded IPv4 are not allowed in a registry's address")
    return address.compressed
