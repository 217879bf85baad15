"""A cluster of plain objects by path, for the parts of the command line that only read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from countersign.cli.cluster.kube import ApiError, Kube


class FakeCluster(Kube):
    """Answers from `objects`: an object or a list by path; an ApiError is raised; anything else is 404."""

    def __init__(self, objects: Mapping[str, Any] | None = None) -> None:
        super().__init__(None)
        self.objects: dict[str, Any] = {"/version": {"gitVersion": "v1.36.3"}, **(objects or {})}
        self.created: list[tuple[str, Any, Mapping[str, str]]] = []
        self.on_create: Any = None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> tuple[bytes, Mapping[str, str]]:
        if method == "POST":
            self.created.append((path, body, query or {}))
            if isinstance(self.on_create, ApiError):
                raise self.on_create
            return json.dumps(self.on_create or body).encode(), {}
        found = self.objects.get(path)
        if isinstance(found, ApiError):
            raise found
        if found is None:
            raise ApiError(404, "NotFound", f"{path} not found")
        return json.dumps({"items": found} if isinstance(found, list) else found).encode(), {}
