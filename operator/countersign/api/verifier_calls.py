"""What the controller asks a verifier, besides what relying parties ask: JSON by POST, on the verifier's own TLS port.

The controller shows its own service-account token, as every asker does (RFC 6750), and no other asker is answered. A
verifier holds no key of ours, so that nothing but its certificate can leak from it.
"""

from typing import Final

import msgspec

USES_PATH: Final = "/internal/uses"
"""UsesQuestion; answers UsesReport."""


class _Call(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Members of a newer release are skipped, and what an older one does not send has a default."""


class AddressUse(_Call, frozen=True, kw_only=True, gc=False):
    """From where a pod's tokens were used, as relying parties told. Times are seconds since 1970."""

    address: str
    """In its canonical form (`access.use.canonical_address`)."""
    first: float
    last: float
    asker: str = ""
    """Who told it last, as `namespace/name`."""


class TokenUses(_Call, frozen=True, kw_only=True, gc=False):
    """What one verifier has seen of one pod's tokens for one audience since that verifier started.

    Numbers only grow, first times stay, last times only move on. Times are seconds since 1970; 0: never.
    """

    pod_uid: str
    audience: str
    active: int = 0
    """Answers that a token was active."""
    first_active: float = 0.0
    last_active: float = 0.0
    refused: dict[str, int] = {}
    """Answers that it was not, by reason code (`access.decision.Reason`)."""
    last_refused: float = 0.0
    last_reason: str = ""
    addresses: tuple[AddressUse, ...] = ()
    """Those of the most recent uses, at most eight. What is not told is not here."""
    askers: tuple[str, ...] = ()
    """Relying parties as `namespace/name`, at most eight; the last is the one that asked last."""


class UsesQuestion(_Call, frozen=True, kw_only=True):
    """Up to where the asker knows each verifier's uses, by the verifier's name: whichever it meets can go on from there."""

    known: dict[str, int] = {}


class UsesReport(_Call, frozen=True, kw_only=True):
    """Uses that changed since then, the oldest change first."""

    verifier: str
    """Name that the verifier's process gave itself: when it started, and something random."""
    cursor: int
    """What the asker then knows."""
    more: bool = False
    """There is more already: ask again."""
    uses: tuple[TokenUses, ...] = ()
