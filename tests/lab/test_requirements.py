"""Where no real node can run, whoever skips its tests can say why."""

from __future__ import annotations

import os
import platform
import shutil

import pytest

from tests.lab import keeper
from tests.lab.realnode import requirements


def test_elsewhere_than_on_linux_the_reason_names_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert requirements.missing() == "a kubelet runs on Linux, and this is Darwin"


def test_without_root_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert requirements.missing() == "a kubelet needs root"


def test_without_apt_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else found(name) or "/bin/true")
    assert requirements.missing() == "this machine has no apt-get"


def test_a_lab_with_a_node_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "missing", lambda: "a kubelet needs root")
    with pytest.raises(keeper.KeeperError, match="no real node here: a kubelet needs root"):
        keeper.up(node=True)
