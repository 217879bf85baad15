"""How resources are addressed: the value `Resource`, and those of Kubernetes' own that Countersign uses."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from countersign.cluster.errors import InvalidNameError


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind's REST endpoint. The core group is the empty string."""

    group: str
    version: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path, percent-encoded. No namespace on a namespaced resource means all of them.

        Raises InvalidNameError for a name that would address something else.
        """
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            if not self.namespaced:
                raise InvalidNameError(f"{self.plural} are cluster-scoped: they have no namespace")
            parts += ["namespaces", _segment(namespace)]
        elif self.namespaced and name is not None:
            raise InvalidNameError(f"{self.plural} are namespaced: name the namespace of {name!r}")
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name))
        if subresource is not None:
            parts.append(_segment(subresource))
        return "/" + "/".join(parts)


def _segment(name: str) -> str:
    # apimachinery, api/validation/path: what may not stand in a path segment.
    if name in {"", ".", ".."} or "/" in name or "%" in name:
        raise InvalidNameError(f"{name!r} cannot be the name of a Kubernetes object")
    return quote(name, safe="")


PODS: Final = Resource("", "v1", "pods", True)
NODES: Final = Resource("", "v1", "nodes", False)
NAMESPACES: Final = Resource("", "v1", "namespaces", False)
SECRETS: Final = Resource("", "v1", "secrets", True)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", True)
SERVICES: Final = Resource("", "v1", "services", True)
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", True)
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", True)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", True)
EVENTS: Final = Resource("events.k8s.io", "v1", "events", True)
TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", False)
SUBJECT_ACCESS_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", False)
SELF_SUBJECT_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", False)
