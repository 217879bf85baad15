"""What several files of attacks share."""

from __future__ import annotations

import pytest

from tests.attack.image_trust import Target
from tests.stack.installation import Installation


@pytest.fixture(scope="session")
def target(countersign: Installation) -> Target:
    """A namespace under image rules of every kind."""
    return Target(countersign)
