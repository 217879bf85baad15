"""Calls from the controller to the gates: each for its counts, any of them for an outlook (`api.gate_calls`)."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from countersign.api.gate_calls import (
    EVIDENCE_PATH,
    OUTLOOK_PATH,
    TALLIES_PATH,
    OutlookAnswer,
    OutlookQuestion,
    TallyReport,
)
from countersign.api.pod import Pod
from countersign.cluster.client import ApiClient
from countersign.controller.calls.calling import CannotCallError, Replicas, Where
from countersign.controller.metrics import ControllerMetrics
from countersign.controller.webhooks.webhooks import GateEndpoint
from countersign.keys.calls import sign_call
from countersign.keys.errors import KeysError
from countersign.keys.receipt_keys import ReceiptKeys
from countersign.trust.evidence.reverification import EvidenceAnswer, EvidenceQuestion

TALLY_SECONDS: Final = 5.0
QUESTION_SECONDS: Final = 30.0
"""Longer than a gate takes for an answer (`gate.internal`)."""

T = TypeVar("T")


class Gates(Replicas):
    """The gates, and what is asked of them."""

    def __init__(
        self,
        client: ApiClient,
        endpoint: GateEndpoint,
        metrics: ControllerMetrics,
        *,
        ca_bundle: Callable[[], bytes],
        keys: Callable[[], ReceiptKeys],
        clock: Callable[[], datetime],
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._turn = 0
        super().__init__(
            client,
            Where(endpoint.namespace, endpoint.service, endpoint.url),
            ca_bundle=ca_bundle,
            authorize=self._sign,
            failed=lambda path: metrics.gate_call_errors.labels(path).inc(),
        )

    async def tallies(self) -> list[TallyReport]:
        """The reports of all gates that answer."""
        targets = await self.targets()
        found = await asyncio.gather(
            *(self.call(target, TALLIES_PATH, b"", TallyReport, TALLY_SECONDS) for target in targets)
        )
        return [report for report in found if report is not None]

    async def outlook(self, namespace: str, pod: Pod) -> OutlookAnswer | None:
        """What one of the gates says of a pod; None: none answers now."""
        return await self._any(OUTLOOK_PATH, OutlookQuestion(namespace=namespace, pod=pod), OutlookAnswer)

    async def evidence(self, question: EvidenceQuestion) -> EvidenceAnswer | None:
        """What one of the gates finds out about an image; None: none answers now."""
        return await self._any(EVIDENCE_PATH, question, EvidenceAnswer)

    async def _any(self, path: str, question: msgspec.Struct, into: type[T]) -> T | None:
        """The answer of the first gate that gives one, beginning with another one each time."""
        targets = await self.targets()
        self._turn += 1
        body = msgspec.json.encode(question)
        for offset in range(len(targets)):
            target = targets[(self._turn + offset) % len(targets)]
            answer = await self.call(target, path, body, into, QUESTION_SECONDS)
            if answer is not None:
                return answer
        return None

    def _sign(self, path: str, body: bytes) -> str:
        try:
            return sign_call(self._keys(), path, body, self._clock())
        except KeysError as error:
            raise CannotCallError(str(error)) from error
