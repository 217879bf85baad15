"""What can go wrong between us and a registry: one tree, each with the reason that a verdict will show."""

from typing import ClassVar

from countersign.trust.evidence.facts import UnverifiableReason


class RegistryError(Exception):
    """The registry gave no usable answer. The message is a phrase for a person, and holds no secret."""

    reason: ClassVar[UnverifiableReason]
    transient: bool = False
    """The same request may well succeed at the retry."""


class RegistryTimeoutError(RegistryError):
    """No answer within the deadline, or within the time of one request."""

    reason = "Timeout"
    transient = True


class RegistryUnavailableError(RegistryError):
    """No connection, no valid certificate, or the server says that it cannot (5xx)."""

    reason = "RegistryUnavailable"

    def __init__(self, message: str, *, transient: bool = True) -> None:
        """A certificate that nobody vouches for will not mend by itself; a broken connection may."""
        super().__init__(message)
        self.transient = transient


class CircuitOpenError(RegistryUnavailableError):
    """The host failed too often of late, and is not asked just now (circuits.py)."""


class NotFoundError(RegistryError):
    """The registry has no such manifest, blob or repository (404)."""

    reason = "NotFound"


class UnauthorizedError(RegistryError):
    """The registry or its token service refuses the credentials, or their use would be unsafe."""

    reason = "Unauthorized"


class RateLimitedError(RegistryError):
    """Too many requests (429), ours or in our own queue."""

    reason = "RateLimited"
    transient = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds, if the registry said."""
        super().__init__(message)
        self.retry_after = retry_after


class MalformedError(RegistryError):
    """The answer breaks a specification: wrong digest, not JSON, an unknown kind of manifest, a bad redirect."""

    reason = "Malformed"


class AddressDeniedError(RegistryError):
    """The host is, or resolves to, an address that must not be contacted."""

    reason = "AddressDenied"


class TooLargeError(RegistryError):
    """The answer is larger than anything of its kind may be."""

    reason = "TooLarge"
