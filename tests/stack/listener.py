"""A verifier that says yes to everyone and keeps what it was told: to see what real proxies send."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from countersign.verifier.authorize import IDENTITY, AmbiguousError, Question, question
from tests.lab.pki import CertificateAuthority
from tests.stack.proxies import VERIFIER


class _Headers:
    def __init__(self, message: Message) -> None:
        self._message = message

    def getall(self, key: str, default: tuple[str, ...]) -> list[str] | tuple[str, ...]:
        return self._message.get_all(key) or default


class Listener:
    """What came, as the verifier's own reader understands it; None: it was refused."""

    def __init__(self, port: int, ca: str) -> None:
        self.port = port
        self.ca = ca
        """PEM."""
        self.heard: list[Question | None] = []

    def last(self) -> Question:
        """What came last, which was understood."""
        found = self.heard[-1]
        assert found is not None
        return found

    def hear(self, method: str, target: str, headers: Message) -> int:
        """The status of the answer."""
        try:
            asked = question(method, target, _Headers(headers))
        except AmbiguousError:
            self.heard.append(None)
            return 403
        self.heard.append(asked)
        return 200 if asked.token else 401


@contextmanager
def listening(authority: CertificateAuthority) -> Iterator[Listener]:
    """A running one, under the verifier's name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    files = authority.server("listener", ["127.0.0.1", VERIFIER])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    listener = Listener(int(server.server_address[1]), authority.cert_file.read_text())
    server.listener = listener  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield listener
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        status = self.server.listener.hear(self.command, self.path, self.headers)  # type: ignore[attr-defined]
        self.send_response(status)
        for name in IDENTITY if status == 200 else ():
            self.send_header(name, "told")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""
