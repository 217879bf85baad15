"""A verifier that says yes to everyone and keeps what it was told: to see what real proxies send."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from countersign.verifier.authorize import IDENTITY, AmbiguousError, Question, question
from tests.lab.pki import Authority


class _Headers:
    def __init__(self, message: Message) -> None:
        self._message = message

    def getall(self, key: str, default: tuple[str, ...]) -> list[str] | tuple[str, ...]:
        return self._message.get_all(key) or default


class Listener:
    """What came, read by the verifier's own reader; None: it would be refused."""

    def __init__(self, server: ThreadingHTTPServer, ca_file: Path) -> None:
        self.port = int(server.server_address[1])
        self.ca_file = ca_file
        self.heard: list[Question | None] = []
