"""A Secret (core/v1), as far as it is read: our own, and those that images are pulled with."""

from countersign.api.schema import Model


class Secret(Model, frozen=True, kw_only=True):
    """A Secret's content; values are base64."""

    type: str = "Opaque"
    data: dict[str, str] = {}
