"""Where the API server is and who we are to it: from the pod's own service account, or from a kubeconfig file."""

import binascii
import os
import ssl
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

from countersign.cluster.credentials import TokenFile, TrustFile, trusting
from countersign.cluster.errors import ConfigError
from countersign.tls import UnusableKeyPairError, load_key_pair

SERVICE_ACCOUNT_DIRECTORY: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_KUBECONFIG_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class ClusterConfig:
    """One way to reach one API server. TLS is always verified.

    `server` is an https URL, perhaps with a path in front of the API's own. `trust` and `token` are asked on each
    request, so that renewed files are picked up; a token of None means a client certificate (or nobody).
    """

    server: str
    trust: Callable[[], ssl.SSLContext]
    token: Callable[[], str] | None = None
    namespace: str = "default"
    server_name: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.server)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"the API server must be given as an https URL, not {self.server!r}")

    def with_token(self, token: str) -> "ClusterConfig":
        """The same cluster as whoever holds `token`. Only for a config whose `trust` presents no certificate."""
        return replace(self, token=lambda: token)


def load_config(kubeconfig: Path | None = None, context: str | None = None) -> ClusterConfig:
    """The config for a service: the given kubeconfig, else the pod's own account, else `$KUBECONFIG`, else ~/.kube.

    Raises ConfigError.
    """
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return in_cluster()
    named = kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    return from_kubeconfig(named, context)


def in_cluster(directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> ClusterConfig:
    """The config of a pod: address from its environment, token, CA and namespace from its projected volume."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("KUBERNETES_SERVICE_HOST is not set: not in a pod, so name a kubeconfig file")
    trust, token = TrustFile(directory / "ca.crt"), TokenFile(directory / "token")
    trust(), token()  # missing files are reported at start, not at the first request
    namespace = _read(directory / "namespace").decode().strip()
    return ClusterConfig(f"https://{f'[{host}]' if ':' in host else host}:{port}", trust, token, namespace)


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(msgspec.Struct, rename="kebab"):
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    as_user: str = msgspec.field(default="", name="as")
    exec_: Any = msgspec.field(default=None, name="exec")
    auth_provider: Any = None


class _Context(msgspec.Struct):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str = ""


def from_kubeconfig(path: Path, context: str | None = None) -> ClusterConfig:
    """The config in a kubeconfig file, static credentials only (certificate, token, token file).

    Credential plug-ins, basic auth, impersonation, proxies and unverified TLS are refused rather than ignored.
    Raises ConfigError.
    """
    content = _read(path)
    if len(content) > MAX_KUBECONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_KUBECONFIG_BYTES} bytes")
    try:
        document = msgspec.convert(yaml.safe_load(content), _Kubeconfig)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} is not a kubeconfig file: {error}") from error
    name = context or document.current_context
    if not name:
        raise ConfigError(f"{path} names no current-context: choose one")
    chosen = _find(path, "context", name, {entry.name: entry.context for entry in document.contexts or ()})
    cluster = _find(path, "cluster", chosen.cluster, {entry.name: entry.cluster for entry in document.clusters or ()})
    users = {entry.name: entry.user or _User() for entry in document.users or ()}
    user = _find(path, "user", chosen.user, users) if chosen.user else _User()
    _refuse_unsupported(path, cluster, user)
    folder = path.parent

    authorities = _inline_or_file(folder, cluster.certificate_authority_data, cluster.certificate_authority)
    trust = trusting(authorities)
    certificate = _inline_or_file(folder, user.client_certificate_data, user.client_certificate)
    key = _inline_or_file(folder, user.client_key_data, user.client_key)
    if certificate and key:
        try:
            load_key_pair(trust, certificate, key)
        except UnusableKeyPairError as error:
            raise ConfigError(f"{path}: user {chosen.user!r}: {error}") from error
    elif certificate or key:
        raise ConfigError(f"{path}: user {chosen.user!r} needs both a client certificate and its key")

    token: Callable[[], str] | None = None
    if user.token_file:
        token = TokenFile(folder / user.token_file)
    elif user.token:
        held = user.token
        token = lambda: held  # noqa: E731
    return ClusterConfig(
        cluster.server.rstrip("/"), lambda: trust, token, chosen.namespace or "default", cluster.tls_server_name or None
    )


def _refuse_unsupported(path: Path, cluster: _Cluster, user: _User) -> None:
    found = [
        what
        for what, present in (
            ("insecure-skip-tls-verify (give certificate-authority instead)", cluster.insecure_skip_tls_verify),
            ("proxy-url", bool(cluster.proxy_url)),
            ("an exec plug-in", user.exec_ is not None),
            ("an auth-provider", user.auth_provider is not None),
            ("basic auth", bool(user.username)),
            ("impersonation", bool(user.as_user)),
        )
        if present
    ]
    if found:
        raise ConfigError(f"{path} asks for {', '.join(found)}: services need a token or a client certificate")


T = TypeVar("T")


def _find(path: Path, kind: str, name: str, entries: dict[str, T]) -> T:
    try:
        return entries[name]
    except KeyError:
        raise ConfigError(f"{path} has no {kind} {name!r}; it has: {', '.join(entries) or 'none'}") from None


def _inline_or_file(folder: Path, inline: str, file: str) -> bytes | None:
    # Inline data wins over the file, as in client-go; file paths are relative to the kubeconfig.
    if inline:
        try:
            return b64decode(inline, validate=True)
        except binascii.Error as error:
            raise ConfigError(f"inline data in the kubeconfig is not base64: {error}") from error
    return _read(folder / file) if file else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
