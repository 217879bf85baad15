"""What the gate answers, and the bounds that the API server sets on it."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from countersign.api.admission import AdmissionResponse, AdmissionReviewResponse, Status

MAX_WARNING: Final = 256
"""Longer warnings may be cut by the API server (kubernetes.io/docs, dynamic admission control, response)."""
MAX_WARNINGS: Final = 8
MAX_AUDIT_VALUE: Final = 1024
"""Characters of one audit annotation: the log keeps it for each request."""
MAX_MESSAGE: Final = 1000
"""Characters of a denial: what still reads well among the events of a ReplicaSet."""

MISROUTED: Final = "Misrouted"

_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A handler's answer, before it is tied to a review."""

    allowed: bool
    reason: str
    """Stable code for metrics and logs, such as `Admitted`, `NotGoverned` or the first finding's."""
    code: int = HTTPStatus.FORBIDDEN
    status_reason: str = "Forbidden"
    """metav1.StatusReason of a refusal: `Forbidden` is a denial, `ServiceUnavailable` asks for a retry."""
    message: str = ""
    patch: bytes | None = None
    warnings: tuple[str, ...] = ()
    audit: Mapping[str, str] = {}
    facts: Mapping[str, object] = {}
    """For the log line: correlation keys."""

    @property
    def result(self) -> str:
        """`allowed`, `denied`, `retry` or `error`: the metric's label."""
        if self.allowed:
            return "allowed"
        if self.code == HTTPStatus.FORBIDDEN:
            return "denied"
        return "retry" if self.code == HTTPStatus.SERVICE_UNAVAILABLE else "error"


class RefuseNow(Exception):  # noqa: N818 - a way out of a handler, turned into its answer by the application
    """There is nothing left to judge: this is the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


def allow(reason: str) -> Answer:
    """Allowed, untouched."""
    return Answer(allowed=True, reason=reason)


def deny(reason: str, message: str, **more: object) -> Answer:
    """Refused for good: the same request will be refused again until something changes."""
    return msgspec.structs.replace(Answer(allowed=False, reason=reason, message=message), **more)


def retry_later(reason: str, message: str, **more: object) -> Answer:
    """Refused for now. Controllers create the pod again after any failure, with a back-off of their own.

    503 and never 504: the workload controllers once took `Timeout` to mean that the pod had been created after all.
    """
    answer = Answer(
        allowed=False,
        reason=reason,
        code=HTTPStatus.SERVICE_UNAVAILABLE,
        status_reason="ServiceUnavailable",
        message=message,
    )
    return msgspec.structs.replace(answer, **more)


def malformed(message: str) -> Answer:
    """The review can be answered, but not what it holds."""
    return Answer(
        allowed=False, reason="Malformed", code=HTTPStatus.BAD_REQUEST, status_reason="BadRequest", message=message
    )


def misrouted(message: str) -> Answer:
    """A review of something that this path does not judge."""
    return msgspec.structs.replace(malformed(message), reason=MISROUTED)


def failed() -> Answer:
    """A defect of ours. No internals: they are in the log, under the review's uid."""
    return Answer(
        allowed=False,
        reason="InternalError",
        code=HTTPStatus.INTERNAL_SERVER_ERROR,
        status_reason="InternalError",
        message="countersign could not judge this request because of an error of its own; see the gate's log",
    )


def encode(uid: str, answer: Answer) -> bytes:
    """The AdmissionReview that answers review `uid`."""
    status = None
    if not answer.allowed:
        status = Status(code=int(answer.code), message=answer.message[: MAX_MESSAGE + 200], reason=answer.status_reason)
    response = AdmissionResponse(
        uid=uid,
        allowed=answer.allowed,
        status=status,
        patch=answer.patch if answer.allowed else None,
        patch_type="JSONPatch" if answer.allowed and answer.patch else None,
        warnings=answer.warnings,
        audit_annotations={key: value[:MAX_AUDIT_VALUE] for key, value in answer.audit.items()},
    )
    return _encode(AdmissionReviewResponse(response=response))


def as_warnings(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts as the API server takes them: no control characters, bounded in length and number, none twice."""
    found = list(dict.fromkeys(_one_line(text) for text in texts))
    if len(found) <= MAX_WARNINGS:
        return tuple(found)
    rest = len(found) - (MAX_WARNINGS - 1)
    return (*found[: MAX_WARNINGS - 1], f"countersign: {rest} more warnings; see `countersign explain`")


def _one_line(text: str) -> str:
    # The API server drops a warning with a control character in it (apimachinery util/net, NewWarningHeader).
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= MAX_WARNING else clean[: MAX_WARNING - 3] + "..."
