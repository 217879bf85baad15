from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from countersign import __version__
from countersign.cli.main import COMMANDS, application
from tests.commands import render

ROOT = Path(__file__).parents[3]


def run(*args: str, program: str = "countersign") -> subprocess.CompletedProcess[str]:
    """The program itself, under a name."""
    code = f"import sys; sys.argv = [{program!r}, *{args!r}]; from countersign.cli.main import run; run()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_page_of_commands_is_what_the_program_says() -> None:
    """`make generate` writes it."""
    assert (ROOT / "docs/commands.md").read_text() == render()


def test_every_option_of_every_command_says_what_it_is_for() -> None:
    silent = [line for line in render().splitlines() if line.startswith("| `") and line.rstrip(" |").endswith("`")]
    assert not [line for line in silent if line.split("|")[-2].strip() == ""]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_can_be_loaded_alone(name: str) -> None:
    result = CliRunner().invoke(application(name), [name, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: countersign")
    found = typer.main.get_command(application(name))
    assert list(found.commands) == [name]  # type: ignore[attr-defined]


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"{__version__}\n"


def test_without_a_command_the_help_names_them_all() -> None:
    shown = run("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in shown
    assert "gate, controller, verifier" in shown


def test_as_a_plugin_it_speaks_of_kubectl() -> None:
    assert run("grants", "--help", program="/usr/bin/kubectl-countersign").stdout.startswith(
        "Usage: kubectl countersign grants"
    )


def test_an_unknown_command_is_a_usage_error() -> None:
    answer = run("grant")
    assert answer.returncode == 2
    assert "No such command 'grant'" in answer.stderr
