"""What docs/evidence-roots.md shows is what the API takes, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from countersign.api.evidence_root import EvidenceRoot
from countersign.cli.files.schema_check import problems
from countersign.signatures.roots.tuf_mirror import Trouble

PAGE = (Path(__file__).parents[3] / "docs" / "evidence-roots.md").read_text()
OBJECTS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]


@pytest.mark.parametrize("shown", OBJECTS, ids=lambda shown: next(iter(shown["spec"]["sigstore"])))
def test_each_object_of_the_page_is_one_that_the_api_takes(shown: object) -> None:
    assert isinstance(shown, dict)
    assert shown["kind"] == EvidenceRoot.KIND
    assert not problems(EvidenceRoot, shown)


def test_the_page_names_each_reason_of_a_failed_refresh() -> None:
    assert len(OBJECTS) == 4
    for reason in get_args(Trouble):
        assert f"`{reason}`" in PAGE
