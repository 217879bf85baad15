"""Which digest is to be written where, and what is known about the images afterwards."""

from collections.abc import Mapping

from countersign.api.pod import Pod
from countersign.trust.evidence.facts import ImageFacts, joined
from countersign.trust.evidence.image_evidence import Evidence
from countersign.trust.images.extraction import ImageUse, extract, read_reference


def pins(uses: tuple[ImageUse, ...], evidence: Evidence) -> dict[str, str]:
    """For each place that names an image by tag and whose digest is known: JSON pointer to pinned reference.

    Pass `images.extract(pod)` on CREATE and `images.changed(old, new)` on UPDATE: pinning the tag of a container that
    already runs would restart it.
    """
    pinned: dict[str, str] = {}
    written: dict[str, str | None] = {}
    for use in uses:
        if use.image not in written:
            written[use.image] = _pinned(use.image, evidence)
        text = written[use.image]
        if text is not None:
            pinned[use.pointer] = text
    return pinned


def facts_by_image(pod: Pod, before: Pod, evidence: Evidence) -> dict[str, ImageFacts]:
    """The facts by the image strings of the pinned `pod`, given those by the strings of the pod as it came.

    Where several of those became one (by tag here, already pinned there), what was found for either is kept: each was
    asked only what its own container needs.
    """
    facts: dict[str, ImageFacts] = {}
    for use, old in zip(extract(pod), extract(before), strict=True):
        found = evidence.get(old.image)
        if isinstance(found, ImageFacts):
            known = facts.get(use.image)
            facts[use.image] = found if known is None or known is found else joined(known, found)
    return facts


def _pinned(image: str, evidence: Mapping[str, object]) -> str | None:
    found = evidence.get(image)
    if not isinstance(found, ImageFacts):
        return None
    reference = read_reference(image)
    if isinstance(reference, str) or reference.digest is not None or found.image != reference.name:
        return None
    return str(reference.with_digest(found.digest))
