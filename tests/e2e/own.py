"""A cluster for one module alone: for tests that take Countersign away, or the whole cluster down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.setting import LabSetting, on_lab
from tests.lab.realnode import requirements

Own = LabSetting


@contextmanager
def own_cluster() -> Iterator[Own]:
    """Start one. Skips where only somebody else's cluster is given, or no real node can run."""
    if os.environ.get("E2E_KUBECONFIG"):
        pytest.skip("takes Countersign or the cluster itself down, which only a cluster of the lab's own bears")
    if why_not := requirements.missing():
        pytest.skip(f"no real node here: {why_not}")
    with on_lab() as made:
        yield made
