"""admission.k8s.io/v1 AdmissionReview, and the TokenRequest and Binding objects that pass through it."""

from typing import Any, Final, Literal

import msgspec

from countersign.api.meta import ObjectMeta
from countersign.api.schema import Model

ABSENT: Final = msgspec.Raw(b"null")
"""An object that the request does not have. (msgspec reads a Raw that may also be None as nothing but null.)"""


class UserInfo(Model, frozen=True, kw_only=True):
    """Who makes the request, as the API server authenticated it (authentication.k8s.io/v1)."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class GroupVersionKind(Model, frozen=True, kw_only=True):
    """A kind."""

    group: str = ""
    version: str = ""
    kind: str = ""


class GroupVersionResource(Model, frozen=True, kw_only=True):
    """A resource."""

    group: str = ""
    version: str = ""
    resource: str = ""


class AdmissionRequest(Model, frozen=True, kw_only=True):
    """The request under review. The objects stay raw until the handler for their kind decodes them."""

    uid: str
    kind: GroupVersionKind
    resource: GroupVersionResource
    sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: UserInfo = UserInfo()
    object: msgspec.Raw = ABSENT
    old_object: msgspec.Raw = ABSENT
    dry_run: bool = False


class AdmissionReview(Model, frozen=True, kw_only=True):
    """What the API server posts."""

    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: AdmissionRequest


class Status(Model, frozen=True, kw_only=True, omit_defaults=False):
    """The part of metav1.Status that a denial carries."""

    code: int = 403
    message: str = ""
    reason: str = ""


class AdmissionResponse(Model, frozen=True, kw_only=True):
    """The answer. `allowed` has no default on purpose."""

    uid: str
    allowed: bool
    status: Status | None = None
    patch: bytes | None = None
    """RFC 6902 operations as JSON; msgspec writes bytes as base64, as the API wants it."""
    patch_type: Literal["JSONPatch"] | None = None
    warnings: tuple[str, ...] = ()
    audit_annotations: dict[str, str] = {}


class AdmissionReviewResponse(Model, frozen=True, kw_only=True, omit_defaults=False):
    """What we answer."""

    api_version: str = "admission.k8s.io/v1"
    kind: str = "AdmissionReview"
    response: AdmissionResponse


class PatchOperation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One RFC 6902 operation."""

    op: Literal["add", "remove", "replace", "test"]
    path: str
    value: Any = msgspec.UNSET


class BoundObjectReference(Model, frozen=True, kw_only=True):
    """The object that a token is bound to."""

    kind: str = ""
    api_version: str = ""
    name: str = ""
    uid: str = ""


class TokenRequestSpec(Model, frozen=True, kw_only=True):
    """What is asked of `serviceaccounts/token` (authentication.k8s.io/v1)."""

    audiences: tuple[str, ...] = ()
    expiration_seconds: int = 3600
    bound_object_ref: BoundObjectReference | None = None


class TokenRequest(Model, frozen=True, kw_only=True):
    """A request for a token. At admission `metadata` is the service account's."""

    metadata: ObjectMeta = ObjectMeta()
    spec: TokenRequestSpec = TokenRequestSpec()


class Namespace(Model, frozen=True, kw_only=True):
    """A namespace (core/v1)."""

    metadata: ObjectMeta = ObjectMeta()


class ServiceAccount(Model, frozen=True, kw_only=True):
    """A service account (core/v1); its imagePullSecrets join the pod's own."""

    metadata: ObjectMeta = ObjectMeta()
    image_pull_secrets: tuple[dict[str, str], ...] = ()
