"""What a change in the cluster concerns."""

from typing import Final, NamedTuple


class Touched(NamedTuple):
    """What a change concerns."""

    pods: tuple[str, ...] = ()
    """UIDs to be reconciled."""
    ended: bool = False
    """An end was seen: before all else."""
    policies: bool = False
    """Policies, audiences, standing orders or labels that they select by may have changed: judge everything anew."""
    namespaces: bool = False
    """A namespace is new, another or gone. With pods in it, that is a change of `policies` as well."""
    status: bool = False
    """Figures in somebody's status may have changed."""
    pauses: bool = False
    """A pause began, moved or is gone."""
    roots: bool = False
    """An EvidenceRoot is new, another or gone."""


NOTHING: Final = Touched()


def merged(one: Touched, other: Touched) -> Touched:
    """Both."""
    return Touched(
        one.pods + other.pods,
        one.ended or other.ended,
        one.policies or other.policies,
        one.namespaces or other.namespaces,
        one.status or other.status,
        one.pauses or other.pauses,
        one.roots or other.roots,
    )
