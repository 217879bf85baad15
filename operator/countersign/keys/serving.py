"""A serving certificate that can be replaced while the server runs, without a restart or a refused connection.

`load_cert_chain` on a live context is not enough: OpenSSL keeps one slot per key type, and a pair that does not match
leaves the context half-changed. So each certificate gets a context of its own, and a callback at the start of each
handshake (with or without SNI) moves the connection to the newest.
"""

import ssl
from datetime import datetime

from countersign.keys.authority import parse_certificate
from countersign.tls import load_key_pair


class HotCertificate:
    """Give `context` to the server once; call `swap` as often as there is a new certificate."""

    def __init__(self, certificate: bytes, private_key: bytes) -> None:
        """Raises UnusableKeyPairError or UnreadableKeysError if the pair cannot be served."""
        self.context = _server_context(certificate, private_key)
        self._current = self.context
        self._pair = (certificate, private_key)
        self.not_after: datetime = parse_certificate(certificate).not_valid_after_utc
        self.context.sni_callback = self._choose

    def swap(self, certificate: bytes, private_key: bytes) -> bool:
        """Serve this pair to every connection from now on; False if it is the one already served.

        Raises UnusableKeyPairError or UnreadableKeysError; the certificate so far then stays in service.
        """
        if (certificate, private_key) == self._pair:
            return False
        fresh = _server_context(certificate, private_key)
        self.not_after = parse_certificate(certificate).not_valid_after_utc
        self._current, self._pair = fresh, (certificate, private_key)
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _server_context(certificate: bytes, private_key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_key_pair(context, certificate, private_key)
    return context
