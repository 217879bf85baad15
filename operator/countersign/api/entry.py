"""What the API server tells of somebody who goes into a pod: the options of CONNECT on its subresources (core/v1)."""

from countersign.api.schema import Model


class PodExecOptions(Model, frozen=True, kw_only=True):
    """Of `pods/exec`; of `pods/attach`, which has no command; of `pods/portforward`, which has neither."""

    container: str = ""
    """Empty: the only one."""
    command: tuple[str, ...] = ()
