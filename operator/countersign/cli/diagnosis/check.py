"""A check: what was looked at, what was found, what to do."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from countersign.api.meta import ObjectMeta
from countersign.api.schema import Model

T = TypeVar("T")

Result = Literal["ok", "warn", "fail", "unknown"]
"""`unknown`: it could not be looked at, which is not ok."""


class Check(NamedTuple):
    """What one check found."""

    check: str
    result: Result
    found: str
    remedy: str = ""


class Cluster(Protocol):
    """What the checks ask of the cluster. Every call may raise cli.kube.ApiError."""

    def version(self) -> tuple[str, str]:
        """The API server's version, and the Date header of its answer (may be empty)."""

    def find(self, path: str, type_: type[T]) -> T | None:
        """One object, or None if there is none."""

    def items(self, path: str, type_: type[T], **query: str) -> Iterator[T]:
        """Every object of a collection."""

    def create(self, path: str, body: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object, or let the API server say what it would do."""


class Anything(Model, frozen=True, kw_only=True):
    """Any object, with the parts that checks read, as they are."""

    metadata: ObjectMeta = ObjectMeta()
    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)
    data: dict[str, str] = msgspec.field(default_factory=dict)
    webhooks: tuple[dict[str, Any], ...] = ()
