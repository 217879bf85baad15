"""Text as a CEL string literal, and the expressions that keep requests away from the gate.

An audience with a quote in it, pasted into a matchCondition as it is, matched every request. The CRD's pattern allows
no such audience; the escape holds whatever the CRD says.
"""

from collections.abc import Iterable
from typing import Final

from countersign.api.names import MIRROR_ANNOTATION, RECEIPT_ANNOTATION

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._:/-@+=,;~!#$%&()*<>[]{}|^?")


def string_literal(text: str) -> str:
    """`text` as a double-quoted CEL string (cel-spec, "String and Bytes Values").

    All but plain ASCII is written as a code-point escape. Raises ValueError for a lone surrogate, which no JSON string
    of the API server's can hold.
    """
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in _PLAIN:
        return character
    point = ord(character)
    if 0xD800 <= point <= 0xDFFF:
        raise ValueError("a lone surrogate is no character")
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def any_of(values: Iterable[str]) -> str:
    """A CEL list of string literals."""
    return "[" + ", ".join(string_literal(value) for value in values) + "]"


def _changed(template: str) -> str:
    return f"{template.format('object')} != {template.format('oldObject')}"


# `{0}` is the object or its old state. Members that a pod may lack are asked for with has().
_IMAGES: Final = "{0}.spec.containers.map(c, has(c.image) ? c.image : '')"
_INIT_IMAGES: Final = (
    "(has({0}.spec.initContainers) ? {0}.spec.initContainers.map(c, has(c.image) ? c.image : '') : [])"
)
_LABELS: Final = "(has({0}.metadata.labels) ? {0}.metadata.labels : {{}})"
_RECEIPT: Final = (
    f"(has({{0}}.metadata.annotations) && '{RECEIPT_ANNOTATION}' in {{0}}.metadata.annotations"
    f" ? {{0}}.metadata.annotations['{RECEIPT_ANNOTATION}'] : '')"
)

NOT_DELETING: Final = "!has(object.metadata.deletionTimestamp)"
NOT_A_MIRROR: Final = (
    f"!has(object.metadata.annotations) || !('{MIRROR_ANNOTATION}' in object.metadata.annotations)"
    " || (request.operation == 'CREATE' && !request.userInfo.username.startsWith('system:node:'))"
)
"""A node's own pods pass the gate by; whoever else creates one under that annotation is asked about."""
POD_MATTERS: Final = " || ".join(
    (
        "request.operation == 'CREATE'",
        "(has(request.subResource) && request.subResource == 'ephemeralcontainers')",
        *(_changed(template) for template in (_IMAGES, _INIT_IMAGES, _LABELS, _RECEIPT)),
    )
)
"""An UPDATE that changes no image, label or receipt is none of the gate's business: status, finalizers, resizes."""
TEMPLATE_MATTERS: Final = "request.operation == 'CREATE' || object.spec != oldObject.spec"
NOT_OWNED: Final = "!has(object.metadata.ownerReferences)"
"""A Job of a CronJob, a Deployment of something larger: the warning would reach no person."""


def asks_for(audiences: Iterable[str]) -> str:
    """Whether a TokenRequest names one of these audiences."""
    return f"has(object.spec.audiences) && object.spec.audiences.exists(a, a in {any_of(audiences)})"
