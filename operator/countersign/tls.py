"""One thing that `ssl` cannot do: load a certificate and its key from memory. Every port may use it.

`SSLContext.load_cert_chain` takes paths only. The pair goes through an anonymous file (memfd), so that no private key
ever has a name on a disk; where the system has none (macOS), through a 0600 file that is removed at once.
"""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path


class UnusableKeyPairError(ValueError):
    """Certificate and private key are not PEM, or do not belong together. The message says which file to look at."""


def load_key_pair(context: ssl.SSLContext, certificate: bytes, private_key: bytes) -> None:
    """Give `context` a PEM certificate chain (leaf first) and its unencrypted PEM private key.

    Raises UnusableKeyPairError; the context is then half-changed and must be thrown away.
    """
    with _readable_once(private_key.rstrip() + b"\n" + certificate) as path:
        try:
            # The empty password keeps OpenSSL from asking on the terminal for one when the key is encrypted.
            context.load_cert_chain(path, password="")
        except (ssl.SSLError, ValueError) as error:
            raise UnusableKeyPairError(
                f"certificate and key cannot be used together ({error}): "
                "both must be PEM, the key unencrypted, and the first certificate the key's own"
            ) from error


@contextlib.contextmanager
def _readable_once(content: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("countersign-key", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, name = tempfile.mkstemp(prefix="countersign-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield name
    finally:
        Path(name).unlink()
