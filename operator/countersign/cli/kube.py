"""The cluster as the person's own kubeconfig sees it, by the official client: it reads exec plug-ins and OIDC.

Answers are decoded into our typed models; the official client's models are never touched.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from countersign.cli.exits import Exit, fail

T = TypeVar("T")

PAGE = 500
"""Objects asked for at a time, as kubectl does."""

KubeconfigOption = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Path of the kubeconfig; else $KUBECONFIG or ~/.kube/config.")
]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]


class ApiError(Exception):
    """The API server said no, or could not be asked. `status` is 0 for the latter."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class _ListMeta(msgspec.Struct):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    items: tuple[msgspec.Raw, ...] = ()
    metadata: _ListMeta = _ListMeta()


class Kube:
    """A few verbs on the API server, typed by msgspec."""

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str | None = None) -> "Kube":
        """By kubeconfig, or from inside a pod. Ends the command with a message if neither is there."""
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            config.load_kube_config(
                config_file=str(kubeconfig) if kubeconfig else None, context=context, client_configuration=configuration
            )
        except config.ConfigException as error:
            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException:
                fail(f"no cluster to talk to ({error}): pass --kubeconfig or set KUBECONFIG")
        return cls(client.ApiClient(configuration))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> tuple[bytes, Mapping[str, str]]:
        """The answer's body and headers. Raises ApiError on any status but 2xx."""
        import urllib3

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        call = self._api.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            response = self._api.call_api(*call, _request_timeout=(5, 30))
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, "Unreachable", f"the API server cannot be reached: {error}") from error
        data: bytes = response.read()
        if not 200 <= response.status < 300:
            raise _error(response.status, data)
        return data, dict(response.getheaders() or {})

    def get(self, path: str, type_: type[T], **query: str) -> T:
        """One object."""
        data, _ = self.request("GET", path, query=query)
        return msgspec.json.decode(data, type=type_)

    def items(self, path: str, type_: type[T], **query: str) -> Iterator[T]:
        """Every object of a collection, page by page."""
        decoder = msgspec.json.Decoder(type_)
        token = ""
        while True:
            paged = {**query, "limit": str(PAGE), **({"continue": token} if token else {})}
            data, _ = self.request("GET", path, query=paged)
            page = msgspec.json.decode(data, type=_Page)
            for item in page.items:
                yield decoder.decode(item)
            token = page.metadata.continue_
            if not token:
                return

    def create(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object, or let the API server say what it would do."""
        data, _ = self.request("POST", path, body=body, query={"dryRun": "All"} if dry_run else None)
        created: dict[str, Any] = msgspec.json.decode(data)
        return created


def connected(kubeconfig: Path | None, context: str | None) -> Kube:
    """The cluster, for a command."""
    return Kube.connect(kubeconfig, context)


def ended_by(error: ApiError, doing: str) -> None:
    """End the command over an API error, with what to do about it."""
    match error.status:
        case 0:
            fail(f"{doing}: {error.message}", Exit.UNKNOWN)
        case 401:
            fail(f"{doing}: the API server does not know you: renew your login ({error.message})")
        case 403:
            fail(f"{doing}: you may not: {error.message}. Ask an admin for the role that the README names")
        case 404:
            fail(f"{doing}: not found: {error.message}")
        case _:
            fail(f"{doing}: {error.message}", Exit.UNKNOWN if error.status >= 500 else Exit.USAGE)


def _error(status: int, data: bytes) -> ApiError:
    try:
        told = json.loads(data)
        return ApiError(status, str(told.get("reason", "")), str(told.get("message", "")) or f"status {status}")
    except (ValueError, AttributeError):
        return ApiError(status, "", data[:300].decode(errors="replace") or f"status {status}")
