"""How the command line reaches an API server: by the official client, or, where that is not installed, by our own.

The official client logs in by exec plug-ins and OIDC, and is larger than all the rest of the package together: the
extra `cli` brings it. The image goes without. There a command runs as its pod's service account, or by a kubeconfig
with a token or a certificate.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

TIMEOUT_SECONDS: Final = (5, 30)
"""To connect, and between two pieces of an answer."""
_WAY_OUT: Final = "pass --kubeconfig or set KUBECONFIG"
_EXTRA: Final = "pip install 'countersign[cli]' brings a client that reads every kubeconfig"


class LinkError(Exception):
    """No connection, or none that could be tried; the message says what to do."""


class Reply(NamedTuple):
    """What the API server answered."""

    status: int
    data: bytes
    headers: Mapping[str, str]


class Link(Protocol):
    """One API server, as one user."""

    namespace: str
    """That of the kubeconfig's context, or of the pod."""

    def send(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any) -> Reply:
        """One request. `body`: None, or what is sent as JSON. Raises LinkError."""


def connect(kubeconfig: Path | None = None, context: str | None = None) -> Link:
    """By kubeconfig, or from inside a pod. Raises LinkError."""
    official = find_spec("kubernetes") is not None
    return OfficialLink(kubeconfig, context) if official else PlainLink(kubeconfig, context)


class OfficialLink:
    """By the official client, whose models are never touched."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Raises LinkError."""
        from kubernetes import client, config

        configuration = client.Configuration()
        configuration.retries = False
        path = str(kubeconfig) if kubeconfig else None
        self.namespace = "default"
        try:
            config.load_kube_config(path, context, configuration)  # type: ignore[no-untyped-call]
            contexts, current = config.list_kube_config_contexts(config_file=path)  # type: ignore[no-untyped-call]
            chosen = next((one for one in contexts if one["name"] == context), current)
            self.namespace = chosen["context"].get("namespace") or self.namespace
        except config.ConfigException as error:
            if kubeconfig is not None or context is not None:
                raise LinkError(f"the kubeconfig cannot be used: {error}") from error
            try:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except config.ConfigException:
                raise LinkError(f"no cluster to talk to ({error}): {_WAY_OUT}") from error
        self._api = client.ApiClient(configuration)

    def send(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any) -> Reply:
        """One request. Raises LinkError."""
        import urllib3
        from kubernetes.client import ApiException

        call = self._api.param_serialize(
            method, path, query_params=list(query.items()), header_params=dict(headers), body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            response: Any = self._api.call_api(*call, _request_timeout=TIMEOUT_SECONDS)
            data: bytes = response.read()
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            raise LinkError(str(error)) from error
        return Reply(response.status, data, dict(response.getheaders() or {}))


class PlainLink:
    """By urllib3, with the credentials that our services read, too: a token or a client certificate."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Raises LinkError."""
        from countersign.cluster.config import load_config
        from countersign.cluster.errors import ConfigError

        try:
            self._config = load_config(kubeconfig, context)
        except ConfigError as error:
            if kubeconfig is not None or context is not None:
                raise LinkError(f"the kubeconfig cannot be used: {error} ({_EXTRA})") from error
            raise LinkError(f"no cluster to talk to ({error}): {_WAY_OUT} ({_EXTRA})") from error
        self.namespace = self._config.namespace

    def send(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any) -> Reply:
        """One request, on a connection of its own. Raises LinkError."""
        import msgspec
        import urllib3

        config = self._config
        sent = dict(headers)
        if config.token is not None:
            sent["Authorization"] = f"Bearer {config.token()}"
        url = config.server + path + (f"?{urlencode(query)}" if query else "")
        connect, read = TIMEOUT_SECONDS
        name = config.server_name or urlsplit(config.server).hostname
        with urllib3.PoolManager(ssl_context=config.trust(), server_hostname=name, assert_hostname=name) as pool:
            try:
                response = pool.request(
                    method,
                    url,
                    body=None if body is None else msgspec.json.encode(body),
                    headers=sent,
                    timeout=urllib3.Timeout(connect=connect, read=read),
                    retries=False,
                    redirect=False,
                )
            except urllib3.exceptions.HTTPError as error:
                raise LinkError(str(error)) from error
        return Reply(response.status, response.data, dict(response.headers))
