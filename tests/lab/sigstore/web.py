"""A small HTTP server in a thread of the test's own process: what Sigstore wants of us and no Go module gives."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.controlplane import LOOPBACK

_IDLE_SECONDS = 30


@dataclass(frozen=True)
class Request:
    """One request. `host` is the host that a CONNECT named, else what the Host header says."""

    method: str
    host: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One answer; `body` goes out as it is if it is bytes, else as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Reply]


class WebServer:
    """Serves HTTP on loopback, HTTPS with `tls`; each connection carries one request, so that none outlives `close`.

    With `proxied` it is a forward proxy, too, that stands for every host it is asked to CONNECT to, by that TLS
    context, and connects to nothing.
    """

    def __init__(
        self, answer: Answer, *, tls: ssl.SSLContext | None = None, proxied: ssl.SSLContext | None = None
    ) -> None:
        class Handler(_Handler):
            pass

        Handler.answer = staticmethod(answer)
        Handler.tls, Handler.proxied = tls, proxied
        # Port 0: the kernel's choice, held from here on.
        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"{'https' if tls else 'http'}://{LOOPBACK}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server; returns when its port is free."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    answer: Answer
    tls: ssl.SSLContext | None
    proxied: ssl.SSLContext | None
    timeout = _IDLE_SECONDS
    connected_to = ""

    def handle(self) -> None:
        # In the connection's own thread: a client that is slow to shake hands holds up nobody; one may go away.
        with contextlib.suppress(OSError):
            if self.tls:
                self._through(self.tls)
            else:
                self.handle_one_request()

    def do_CONNECT(self) -> None:
        if self.proxied is None:
            self.send_error(405)
            return
        self.connected_to = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self._through(self.proxied)

    def _through(self, tls: ssl.SSLContext) -> None:
        """Answer one request inside TLS."""
        outer = self.rfile, self.wfile
        with tls.wrap_socket(self.connection, server_side=True) as connection:
            self.request = connection
            self.setup()
            self.handle_one_request()
            self.finish()
        self.rfile, self.wfile = outer

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        host = self.connected_to or self.headers.get("Host", "")
        try:
            reply = type(self).answer(Request(self.command, host, self.path, body))
        except (ValueError, KeyError, TypeError) as error:
            reply = Reply(400, {"code": 400, "message": f"{type(error).__name__}: {error}"})
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """No line for each request."""
