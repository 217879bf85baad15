"""A small synchronous HTTP client for tests that need exact control of path, verb and body."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3

_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"

_PIECEWISE_BYTES = 1 << 20
_TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)


class UnexpectedStatusError(AssertionError):
    """The answer's status is not the one that the caller expected; the message holds what the server said."""


class Answer:
    """A response. `status, body = answer` works; `body` is the parsed JSON, or the text where it is none."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data
        try:
            self.body: Any = json.loads(data) if data else None
        except ValueError:
            self.body = data.decode(errors="replace")

    def __iter__(self) -> Iterator[Any]:
        yield self.status
        yield self.body

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.message!r})"

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        """What a Kubernetes Status object says, else the start of the body."""
        if isinstance(self.body, dict) and isinstance(self.body.get("message"), str):
            return str(self.body["message"])
        return self.data.decode(errors="replace")[:500]

    @property
    def warnings(self) -> list[str]:
        """Texts of the `Warning: 299 - "..."` headers (RFC 7234, section 5.5), as kubectl prints them."""
        return [
            re.sub(r"\\(.)", r"\1", quoted)
            for quoted in re.findall(r'"((?:[^"\\]|\\.)*)"', self.headers.get("Warning", ""))
        ]


class HttpClient:
    """Keeps connections alive; safe to share between threads. Never retries, never follows a redirect."""

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: Path | None = None,
        ca_data: str | None = None,
        server_name: str | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`server_name`: the certificate's, where the URL has an address."""
        self.base_url = base_url.rstrip("/")
        self._headers = dict(headers or {})
        self._pool = urllib3.PoolManager(
            maxsize=64,
            ca_certs=str(ca_file) if ca_file else None,
            ca_cert_data=ca_data,
            server_hostname=server_name,
            cert_file=str(cert_file) if cert_file else None,
            key_file=str(key_file) if key_file else None,
            timeout=_TIMEOUT,
            retries=False,
        )

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        expect: int | None = None,
    ) -> Answer:
        """Send one request. `body`: bytes as they are, anything else as JSON.

        `expect`: the status to insist on; another raises UnexpectedStatusError.
        """
        url = path if path.startswith(("http://", "https://")) else self.base_url + path
        if query:
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode(query)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**self._headers, **(headers or {})}
        if data is not None:
            sent.setdefault("Content-Type", content_type)
        stream: bytes | io.BytesIO | None = data
        if data is not None and len(data) > _PIECEWISE_BYTES:
            # A layer of an image in one write would have to be taken within the time allowed for one piece.
            stream, sent["Content-Length"] = io.BytesIO(data), str(len(data))
        response = self._pool.request(method, url, body=stream, headers=sent, redirect=False)
        answer = Answer(response.status, response.headers, response.data)
        if expect is not None and answer.status != expect:
            raise UnexpectedStatusError(f"{method} {path}: {answer.status}, expected {expect}: {answer.message}")
        return answer

    def get(
        self,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        expect: int | None = None,
    ) -> Answer:
        return self.request("GET", path, query=query, headers=headers, expect=expect)

    def post(
        self, path: str, body: Any, *, query: Mapping[str, str] | None = None, expect: int | None = None
    ) -> Answer:
        return self.request("POST", path, body, query=query, expect=expect)

    def put(self, path: str, body: Any, *, query: Mapping[str, str] | None = None, expect: int | None = None) -> Answer:
        return self.request("PUT", path, body, query=query, expect=expect)

    def patch(
        self,
        path: str,
        body: Any,
        *,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
        expect: int | None = None,
    ) -> Answer:
        """A list is sent as a JSON patch, anything else as a merge patch, unless `content_type` says otherwise."""
        kind = content_type or (_JSON_PATCH if isinstance(body, list) else _MERGE)
        return self.request("PATCH", path, body, query=query, content_type=kind, expect=expect)

    def apply(self, path: str, body: Any, *, manager: str = "lab", expect: int | None = None) -> Answer:
        """Server-side apply, with force."""
        query = {"fieldManager": manager, "force": "true"}
        return self.request("PATCH", path, body, query=query, content_type=_APPLY, expect=expect)

    def delete(
        self,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        expect: int | None = None,
    ) -> Answer:
        return self.request("DELETE", path, body, query=query, expect=expect)

    def open(self, path: str) -> urllib3.BaseHTTPResponse:
        """GET with the body still to be read, such as a watch; the caller closes it. Raises UnexpectedStatusError."""
        response = self._pool.request("GET", self.base_url + path, headers=self._headers, preload_content=False)
        if response.status != 200:
            raise UnexpectedStatusError(f"GET {path}: {response.status}, expected 200")
        return response

    def close(self) -> None:
        self._pool.clear()
