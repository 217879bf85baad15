"""Grants that hold equal parts in common: replicas differ in who they are, not in what was verified of them.

Of a grant of 2.9 kB most is images, evidence, policies and tokens, the same in every replica.
"""

from collections.abc import Hashable
from typing import Final, TypeVar, cast

import msgspec

from countersign.api.grant import WorkloadGrant

T = TypeVar("T", bound=Hashable)

MAX_PARTS: Final = 8192
"""Different parts that are kept: when they are more, all are let go, and those in use come back one by one."""


class Sharing:
    """Knows the parts of the grants that it has seen."""

    def __init__(self) -> None:
        self._parts: dict[Hashable, Hashable] = {}

    def __len__(self) -> int:
        """Different parts that are kept."""
        return len(self._parts)

    def shared(self, grant: WorkloadGrant) -> WorkloadGrant:
        """An equal grant, whose parts are those of earlier ones where they are equal."""
        spec = grant.spec
        return msgspec.structs.replace(
            grant,
            spec=msgspec.structs.replace(
                spec,
                service_account=self._one(spec.service_account),
                controller=self._one(spec.controller),
                owner=self._one(spec.owner),
                requester=self._one(spec.requester),
                policies=self._one(spec.policies),
                tokens=self._one(spec.tokens),
                images=self._one(spec.images),
            ),
        )

    def _one(self, part: T) -> T:
        if len(self._parts) >= MAX_PARTS:
            self._parts.clear()
        return cast("T", self._parts.setdefault(part, part))
