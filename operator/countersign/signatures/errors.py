"""Why a candidate is not a signature for the image. One bad candidate says nothing about the next."""

from typing import Literal

SignatureProblem = Literal["Malformed", "OtherDigest", "OtherType", "NoKeyMatches", "Untrusted"]


class SignatureError(Exception):
    """This candidate does not vouch.

    `problem` is Malformed (not the format), NoKeyMatches (none of the keys, and no certificate, made it), Untrusted (a
    certificate, or what should prove its time, does not go back to the evidence root), OtherDigest (genuine, but for
    another image) or OtherType (genuine, but a statement of another kind, such as an attestation).
    """

    def __init__(self, problem: SignatureProblem, message: str) -> None:
        """`message` is a phrase for a person."""
        super().__init__(message)
        self.problem: SignatureProblem = problem
