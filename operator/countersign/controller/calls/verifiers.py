"""Calls from the controller to the verifiers: each of them for the uses that it has seen (`api.verifier_calls`).

The controller shows its own service-account token of the verifier's audience, from a file that the kubelet renews.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from countersign.api.verifier_calls import USES_PATH, UsesQuestion, UsesReport
from countersign.cluster.client import ApiClient
from countersign.controller.calls.calling import CannotCallError, Replicas, Target, Where
from countersign.controller.metrics import ControllerMetrics

USES_SECONDS: Final = 5.0
MAX_PAGES: Final = 100
"""Of one verifier in one round. The rest comes with the next."""
MAX_KNOWN: Final = 64
"""Verifiers of which it is remembered how much is known; of more, those that started first are asked anew."""


class Verifiers(Replicas):
    """The verifiers, and what is asked of them."""

    def __init__(
        self,
        client: ApiClient,
        where: Where,
        metrics: ControllerMetrics,
        *,
        ca_bundle: Callable[[], bytes],
        token_file: Path,
    ) -> None:
        self._token_file = token_file
        self._known: dict[str, int] = {}
        super().__init__(
            client,
            where,
            ca_bundle=ca_bundle,
            authorize=self._bearer,
            failed=lambda path: metrics.verifier_call_errors.labels(path).inc(),
        )

    async def uses(self) -> list[UsesReport]:
        """What has changed at all verifiers that answer since they were last asked."""
        targets = await self.targets()
        found = await asyncio.gather(*(self._pages(target) for target in targets))
        return [report for pages in found for report in pages]

    async def _pages(self, target: Target) -> list[UsesReport]:
        pages: list[UsesReport] = []
        for _ in range(MAX_PAGES):
            body = msgspec.json.encode(UsesQuestion(known=self._known))
            report = await self.call(target, USES_PATH, body, UsesReport, USES_SECONDS)
            if report is None:
                break
            pages.append(report)
            self._known[report.verifier] = report.cursor
            while len(self._known) > MAX_KNOWN:
                del self._known[min(self._known)]
            if not report.more:
                break
        return pages

    def _bearer(self, _path: str, _body: bytes) -> str:
        try:
            return f"Bearer {self._token_file.read_text().strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise CannotCallError(f"the token for the verifier cannot be read: {error}") from error
