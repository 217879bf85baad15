"""What the lab's image and the Dockerfile's have in common: paths, user, entry point, environment. A test compares."""

from __future__ import annotations

from typing import Final

from countersign import __version__

PYTHON: Final = "/usr/bin/python3.11"
"""Debian 12's interpreter, in the distroless base as well."""
HOME: Final = "/opt/countersign"
LIBRARY: Final = f"{HOME}/lib"
"""Our package and all that it imports, each as its wheel has it."""
COMMAND: Final = f"{HOME}/bin/countersign"
ENTRYPOINT: Final = (COMMAND,)
USER: Final = "65532:65532"
"""Numeric, so that `runAsNonRoot` can tell; distroless calls it nonroot."""
ENVIRONMENT: Final = {
    "PATH": f"{HOME}/bin:/usr/bin",
    "PYTHONPATH": LIBRARY,
    # OpenSSL of Debian looks below /usr/lib/ssl, where only the package `openssl` puts anything.
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
LABELS: Final = {
    "org.opencontainers.image.title": "countersign",
    "org.opencontainers.image.description": "Workload identity that rests on evidence about this very pod.",
    "org.opencontainers.image.licenses": "Apache-2.0",
    "org.opencontainers.image.version": __version__,
}
PORTS: Final = ("8443/tcp", "8081/tcp")
