"""kopf without the Kubernetes client that it would load beside itself.

kopf imports `kubernetes` wherever it is installed, only to recognise its classes. The controller has no use for it, and
it is much of the 100 MiB that the process may take (measured after all imports: 78.7 MiB with it, 60.7 without).
"""

from typing import Final

from countersign.lean import hidden

_NOT_NEEDED: Final = ("kubernetes", "kubernetes_asyncio", "pykube")

with hidden(*_NOT_NEEDED):
    import kopf

__all__ = ["kopf"]
