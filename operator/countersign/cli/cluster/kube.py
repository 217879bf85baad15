"""The cluster as the person's own kubeconfig sees it. Answers are decoded into our typed models."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer

from countersign.api.names import GROUP
from countersign.cli.cluster import links
from countersign.cli.terminal.exits import Exit, fail

T = TypeVar("T")

PAGE: Final = 500
"""Objects asked for at a time, as kubectl does."""
_ACCEPT: Final = "application/json, application/jwk-set+json"
"""The issuer's keys come as a type of their own (RFC 7517, section 8.5.2)."""

KubeconfigOption = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Path of the kubeconfig; else $KUBECONFIG or ~/.kube/config.")
]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; else that of the kubeconfig's context.")
]


class ApiError(Exception):
    """The API server said no, or could not be asked. `status` is 0 for the latter."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class _ListMeta(msgspec.Struct, frozen=True):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, frozen=True):
    items: tuple[msgspec.Raw, ...] = ()
    metadata: _ListMeta = _ListMeta()


class _Status(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class Kube:
    """A few verbs on the API server, typed by msgspec. Every call raises ApiError."""

    def __init__(self, link: links.Link | None, namespace: str = "default") -> None:
        """Without a link nobody is asked: for whoever overrides `request`. `namespace` is then the context's."""
        self._link = link
        self.namespace = link.namespace if link else namespace

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str | None = None) -> "Kube":
        """By kubeconfig, or from inside a pod. Ends the command with a message if neither is there."""
        try:
            return cls(links.connect(kubeconfig, context))
        except links.LinkError as error:
            fail(str(error))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> tuple[bytes, Mapping[str, str]]:
        """The answer's body and headers. A body is sent as JSON, under `content_type`."""
        if self._link is None:
            raise ApiError(0, "Unreachable", "there is no link to an API server")
        headers = {"Accept": _ACCEPT}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            status, data, told = self._link.send(method, path, query or {}, headers, body)
        except links.LinkError as error:
            raise ApiError(0, "Unreachable", f"the API server cannot be reached: {error}") from error
        if not 200 <= status < 300:
            raise _error(status, data)
        return data, told

    def version(self) -> tuple[str, str]:
        """The API server's version, and the Date header of its answer (may be empty)."""
        data, headers = self.request("GET", "/version")
        date = next((value for name, value in headers.items() if name.lower() == "date"), "")
        return str(msgspec.json.decode(data)["gitVersion"]), date

    def get(self, path: str, type_: type[T], **query: str) -> T:
        """One object."""
        data, _ = self.request("GET", path, query=query)
        return msgspec.json.decode(data, type=type_)

    def find(self, path: str, type_: type[T]) -> T | None:
        """One object, or None if there is none."""
        try:
            return self.get(path, type_)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

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

    def merge_patch(self, path: str, patch: Mapping[str, Any]) -> None:
        """Change an object (RFC 7396). With `metadata.resourceVersion` in it, only if it is as it was read."""
        self.request("PATCH", path, body=patch, content_type="application/merge-patch+json")

    def json_patch(self, path: str, operations: list[dict[str, Any]]) -> None:
        """Change an object by operations (RFC 6902). A `test` that fails is an ApiError of status 422."""
        self.request("PATCH", path, body=operations, content_type="application/json-patch+json")


def connected(kubeconfig: Path | None, context: str | None) -> Kube:
    """The cluster, for a command."""
    return Kube.connect(kubeconfig, context)


def ended_by(error: ApiError, doing: str) -> NoReturn:
    """End the command over an API error, with what to do about it."""
    match error.status:
        case 0:
            fail(f"{doing}: {error.message}", Exit.UNKNOWN)
        case 401:
            fail(f"{doing}: the API server does not know you: renew your login ({error.message})")
        case 403:
            fail(f"{doing}: you may not: {error.message}. Ask an admin for the role that docs/commands.md names")
        case 404 if not error.reason:
            fail(f"{doing}: the cluster does not know {GROUP}: install Countersign first, or check --context")
        case 404:
            fail(f"{doing}: {error.message}")
        case status:
            fail(f"{doing}: {error.message}", Exit.UNKNOWN if status >= 500 or status == 429 else Exit.USAGE)


def _error(status: int, data: bytes) -> ApiError:
    try:
        told = msgspec.json.decode(data, type=_Status)
    except msgspec.DecodeError:
        # Not the API server's Status: it has no such path, or something stands in between.
        told = _Status("", data[:300].decode(errors="replace").strip())
    return ApiError(status, told.reason, told.message or f"status {status}")
