"""Questions only the API server can answer: whose token is this, and may they do that."""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from countersign.cluster.client import CALL_SECONDS, ApiClient, Object
from countersign.cluster.errors import MalformedAnswerError
from countersign.cluster.resource import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS

T = TypeVar("T")

MAX_TOKEN_CHARACTERS: Final = 16 * 1024
"""Longer than any service-account token (about 1.5 kB); keeps junk away from the API server."""


class UserInfo(msgspec.Struct, frozen=True):
    """authentication.k8s.io/v1 UserInfo."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class TokenReviewResult(msgspec.Struct, frozen=True):
    """TokenReviewStatus. `audiences` are those of the token among the ones asked for."""

    authenticated: bool = False
    user: UserInfo = UserInfo()
    audiences: tuple[str, ...] = ()
    error: str = ""


class AccessReviewResult(msgspec.Struct, frozen=True, rename="camel"):
    """SubjectAccessReviewStatus."""

    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluation_error: str = ""


class ResourceAttributes(msgspec.Struct, frozen=True, omit_defaults=True):
    """authorization.k8s.io/v1 ResourceAttributes: what is to be done to what. Empty means all, as there."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


async def token_review(
    client: ApiClient, token: str, audiences: Sequence[str], *, within: float = CALL_SECONDS
) -> TokenReviewResult:
    """What the API server says of `token`. Authenticated only if it is for one of `audiences`, too.

    A token that cannot be one is answered here. Raises ClusterError.
    """
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        return TokenReviewResult(error="not a token")
    spec = {"token": token, "audiences": list(audiences)}
    review = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": "TokenReview", "spec": spec}
    result = _status(await client.create(TOKEN_REVIEWS, review, within=within), TokenReviewResult)
    # An authenticator that knows no audiences answers without any (see TokenReviewStatus.audiences): not good enough.
    if result.authenticated and not set(result.audiences) & set(audiences):
        return TokenReviewResult(error="the token is for another audience", user=result.user)
    return result


async def access_review(
    client: ApiClient,
    user: UserInfo,
    attributes: ResourceAttributes,
    *,
    within: float = CALL_SECONDS,
) -> AccessReviewResult:
    """Whether `user` may do what `attributes` say. Raises ClusterError."""
    spec = {
        "user": user.username,
        "uid": user.uid,
        "groups": user.groups,
        "extra": user.extra,
        "resourceAttributes": attributes,
    }
    review = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": "SubjectAccessReview", "spec": spec}
    return _status(await client.create(SUBJECT_ACCESS_REVIEWS, review, within=within), AccessReviewResult)


def _status(review: Object, into: type[T]) -> T:
    # No status means no verdict: the defaults say no.
    try:
        return msgspec.convert(review.get("status") or {}, into)
    except msgspec.ValidationError as error:
        raise MalformedAnswerError(f"the status of a review cannot be read: {error}") from error
