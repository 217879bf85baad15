"""kopf without the Kubernetes client that it would load beside itself.

kopf imports `kubernetes` wherever it is installed, only to recognise its classes. The controller has no use for it, and
it is much of the 100 MiB that the process may take (measured after all imports: 78.7 MiB with it, 60.7 without).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_NOT_NEEDED: Final = ("kubernetes", "kubernetes_asyncio", "pykube")


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """While it lasts, these packages seem not to be installed, unless they are loaded already."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None makes an import fail (Python reference, "The module cache")
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


with _hidden(*_NOT_NEEDED):
    import kopf

__all__ = ["kopf"]
