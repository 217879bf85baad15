"""Writing a status where it is another than the one that stands there."""

from typing import Protocol

import msgspec

from countersign.api.objects import CustomResource
from countersign.controller.store import StaleError


class StatusStore(Protocol):
    """Where a status is written (`controller.store.Store`)."""

    async def write_status(self, resource: CustomResource, status: msgspec.Struct) -> None:
        """Raises StaleError if the object is gone."""


async def written(store: StatusStore, resource: CustomResource, status: msgspec.Struct) -> bool:
    """Whether it was written: False where nothing differs, or where the object is gone. Raises ClusterError."""
    if status == resource.status:
        return False
    try:
        await store.write_status(resource, status)
    except StaleError:
        return False  # its deletion is on the way to us
    return True
