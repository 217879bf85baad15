"""What an API call can end in. One type per thing a caller may want to do about it."""

from typing import Final

import msgspec

MAX_MESSAGE: Final = 1024
"""How much of a server's own words goes into an error: enough for an admission denial, bounded for logs."""


class ClusterError(Exception):
    """Base of every error of this package."""


class ConfigError(ClusterError):
    """No usable way to reach a cluster: the message names the file or variable and what it should hold."""


class InvalidNameError(ClusterError, ValueError):
    """A namespace or name that cannot stand in a request path."""


class MalformedAnswerError(ClusterError):
    """The server's answer is not what was asked for: not JSON, another shape, or beyond a size limit."""


class UnavailableError(ClusterError):
    """No answer that says anything about the request: it may or may not have been carried out."""


class UnreachableError(UnavailableError):
    """The connection failed or broke."""


class TimedOutError(UnavailableError):
    """No answer within the time allowed."""


class ApiError(ClusterError):
    """The API server's answer was an error. `status` is the HTTP code, `reason` metav1.Status.reason (or empty)."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class BadRequestError(ApiError):
    """400."""


class UnauthorizedError(ApiError):
    """401: the credentials are unknown or over."""


class ForbiddenError(ApiError):
    """403: RBAC or an admission check says no."""


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: the object changed since it was read, or a precondition fails."""


class AlreadyExistsError(ApiError):
    """409 with reason AlreadyExists."""


class GoneError(ApiError):
    """410: the resourceVersion or continue token is too old. List again."""


class InvalidError(ApiError):
    """422: the object breaks its schema or a validation rule."""


class TooManyRequestsError(ApiError):
    """429: priority and fairness, or a disruption budget. Nothing was done; `retry_after` is in seconds."""


class ServerError(ApiError, UnavailableError):
    """5xx: an overloaded, starting or broken server, or a webhook that it could not call."""


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: TooManyRequestsError,
}


class Status(msgspec.Struct, frozen=True):
    """metav1.Status, as far as it explains a failure."""

    code: int = 0
    reason: str = ""
    message: str = ""


def error_from(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error for an HTTP answer. A body that is no metav1.Status is quoted instead."""
    try:
        said = msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        said = Status(message=body[:MAX_MESSAGE].decode("utf-8", "replace").strip())
    return error_from_status(status, said, _seconds(retry_after))


def error_from_status(status: int, said: Status, retry_after: float | None = None) -> ApiError:
    """The error for a metav1.Status, which a watch also delivers inside its stream."""
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    if kind is ConflictError and said.reason == "AlreadyExists":
        kind = AlreadyExistsError
    return kind(status, said.reason, said.message[:MAX_MESSAGE] or "no message", retry_after)


def _seconds(retry_after: str | None) -> float | None:
    # The API server sends whole seconds (RFC 9110 section 10.2.3 also allows a date, which a proxy might send).
    if retry_after is None:
        return None
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 1.0
