"""Object metadata, conditions and selectors, as far as we read or write them (apimachinery meta/v1)."""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from countersign.api.schema import Model, Rule, doc

UTCTime = str
"""RFC 3339 time as the API server writes it (`2026-01-02T03:04:05Z`); parse with `api.clock.parse`."""


# metav1.LabelSelector takes no others (apimachinery validation: IsQualifiedName, IsValidLabelValue), and a webhook
# configuration that passes a policy's selector on would be refused whole.
_LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"


class OwnerReference(Model, frozen=True, kw_only=True):
    """A link to an owning object. Whoever writes the object writes this: a claim, not a proof."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Model, frozen=True, kw_only=True):
    """The part of ObjectMeta that we read. At mutating admission a pod has no uid and often no name."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: UTCTime | None = None
    deletion_timestamp: UTCTime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class Condition(Model, frozen=True, kw_only=True):
    """metav1.Condition: what holds for an object, seen at which generation."""

    type: Annotated[str, doc("Name of the condition, CamelCase.", max_length=64)]
    status: Annotated[Literal["True", "False", "Unknown"], doc("Whether it holds.")]
    reason: Annotated[str, doc("Stable reason code, CamelCase.", max_length=64)]
    message: Annotated[str, doc("What was found and what to do, for people.", max_length=1024)] = ""
    last_transition_time: Annotated[UTCTime, doc("When status last changed.", string_format="date-time")]
    observed_generation: Annotated[int, doc("The metadata.generation that was judged.")] = 0


class SelectorRequirement(Model, frozen=True, kw_only=True):
    """One clause of a label selector."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "operators In and NotIn need `values`, Exists and DoesNotExist must not have them",
        ),
    )

    key: Annotated[str, doc("Label key.", pattern=_LABEL_KEY, min_length=1, max_length=317)]
    operator: Annotated[Literal["In", "NotIn", "Exists", "DoesNotExist"], doc("How the key's value is compared.")]
    values: Annotated[
        tuple[str, ...], doc("Values for In and NotIn.", max_length=32, item_max_length=63, item_pattern=_LABEL_VALUE)
    ] = ()


class LabelSelector(Model, frozen=True, kw_only=True):
    """A Kubernetes label selector; an empty one selects everything."""

    match_labels: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=63, pattern=_LABEL_VALUE)]],
        doc(
            "Labels that must be there with these values.",
            max_length=32,
            rules=(
                Rule(
                    f"self.all(key, key.matches(r'{_LABEL_KEY}'))",
                    "each key must be a label key: an optional DNS prefix and `/`, then at most 63 letters, digits, `-`, `_` or `.`",
                ),
            ),
        ),
    ] = {}
    match_expressions: Annotated[
        tuple[SelectorRequirement, ...], doc("Clauses that must all hold.", max_length=32)
    ] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy every clause (apimachinery labels.Selector)."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(_holds(requirement, labels) for requirement in self.match_expressions)


def _holds(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    present = requirement.key in labels
    match requirement.operator:
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case "In":
            return present and labels[requirement.key] in requirement.values
        case "NotIn":
            # As in Kubernetes: an object without the key satisfies NotIn.
            return not present or labels[requirement.key] not in requirement.values


def condition(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type, if there is one."""
    return next((found for found in conditions if found.type == kind), None)
