"""Paths of the API server for our kinds."""

from countersign.api.names import GROUP, VERSION
from countersign.api.objects import CustomResource


def collection(kind: type[CustomResource], namespace: str | None = None) -> str:
    """The collection of a kind: in one namespace, or everywhere if `namespace` is empty."""
    base = f"/apis/{GROUP}/{VERSION}"
    return f"{base}/namespaces/{namespace}/{kind.PLURAL}" if namespace else f"{base}/{kind.PLURAL}"
