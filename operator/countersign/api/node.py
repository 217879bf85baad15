"""Node (core/v1), as far as its life goes: heartbeats rewrite whole objects, and nobody here reads the rest."""

from countersign.api.meta import ObjectMeta, UTCTime
from countersign.api.schema import Model


class NodeCondition(Model, frozen=True, kw_only=True):
    """One condition of a node. `Ready` is Unknown once the node-lifecycle controller misses its heartbeats."""

    type: str = ""
    status: str = ""
    last_transition_time: UTCTime | None = None


class NodeStatus(Model, frozen=True, kw_only=True):
    """The part of a node's status that we read."""

    conditions: tuple[NodeCondition, ...] = ()


class Node(Model, frozen=True, kw_only=True):
    """A node: another object of the same name is another machine."""

    metadata: ObjectMeta = ObjectMeta()
    status: NodeStatus = NodeStatus()
