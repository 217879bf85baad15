from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from countersign.cli import services
from countersign.cli.main import SERVICES


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a service that only tests have."""

    name: str = "n1"
    """What it is called.

    In two paragraphs."""
    port: int = 8443
    share: float = 0.5
    json: bool = True
    """Whether to speak JSON."""
    kubeconfig: Path | None = None
    files: tuple[Path, ...] = ()
    """Files to read."""
    ranges: tuple[str, ...] = ("10.0.0.0/8",)
    made: str = field(default_factory=lambda: "made")


def run(*args: str, env: dict[str, str] | None = None) -> Settings:
    """What the settings are for this command line."""
    got: list[Settings] = []
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        pass

    def keep(settings: Settings) -> int:
        got.append(settings)
        return 7

    app.command("run")(services.command_for(Settings, keep, "Runs."))
    result = CliRunner().invoke(app, ["run", *args], env=env)
    assert result.exit_code == 7, result.output
    return got[0]


def test_without_options_the_settings_keep_their_defaults() -> None:
    assert run() == Settings()


def test_each_field_is_an_option() -> None:
    args = ["--name=x", "--port=0", "--share=1", "--no-json", "--kubeconfig=/k", "--files=/a", "--files=/b,/c"]
    assert run(*args, "--ranges=::/0") == Settings(
        name="x",
        port=0,
        share=1.0,
        json=False,
        kubeconfig=Path("/k"),
        files=(Path("/a"), Path("/b"), Path("/c")),
        ranges=("::/0",),
    )


def test_each_field_is_a_variable() -> None:
    env = {"COUNTERSIGN_NAME": "x", "COUNTERSIGN_JSON": "false", "COUNTERSIGN_FILES": "/a,/b", "COUNTERSIGN_PORT": "1"}
    assert run(env=env) == Settings(name="x", json=False, files=(Path("/a"), Path("/b")), port=1)


def test_an_option_beats_its_variable() -> None:
    assert run("--port=2", env={"COUNTERSIGN_PORT": "1"}).port == 2


def test_help_is_the_text_below_the_field() -> None:
    assert services.attribute_docs(Settings) == {
        "name": "What it is called. In two paragraphs.",
        "json": "Whether to speak JSON.",
        "files": "Files to read.",
    }


def test_a_setting_that_no_option_can_express_is_an_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        table: dict[str, str] = field(default_factory=dict)

    with pytest.raises(TypeError, match="table"):
        services.options(Odd)


def test_settings_that_refuse_a_value_end_the_command_with_their_words() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Picky:
        port: int = 1

        def __post_init__(self) -> None:
            if self.port > 65535:
                raise ValueError("port must be under 65536")

    app = typer.Typer()
    app.command("run")(services.command_for(Picky, lambda _settings: 0, "Runs."))
    result = CliRunner().invoke(app, ["--port=70000"])
    assert result.exit_code == 2
    assert "port must be under 65536" in result.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_setting_of_a_service_has_an_option_with_a_variable(name: str) -> None:
    settings = services.settings_of(name)
    for parameter in services.options(settings):
        annotation, option = get_args(parameter.annotation)
        assert isinstance(option, typer.models.OptionInfo), annotation
        assert option.envvar == f"COUNTERSIGN_{parameter.name.upper()}"


@pytest.mark.parametrize("name", SERVICES)
def test_help_of_a_service_loads_nothing_of_the_others(name: str) -> None:
    """Start-up stays cheap, and a service holds in memory only what it uses."""
    program = (
        "import sys; from countersign.cli.main import application\n"
        f"try: application({name!r})(['{name}', '--help'])\n"
        "except SystemExit: pass\n"
        "print(','.join(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = set(output.splitlines()[-1].split(","))
    assert f"countersign.{name}.settings" in loaded
    foreign = {"kubernetes", "kopf", "rich", "aiohttp", "cryptography", "yaml"}
    foreign |= {f"countersign.{other}" for other in SERVICES if other != name}
    assert not loaded & foreign
