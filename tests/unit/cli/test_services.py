from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

from countersign.cli import services


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


def run(*args: str, **environment: str) -> Settings:
    """What the settings are for this command line."""
    return services.parse(Settings, args, environment)


def refused(capsys: pytest.CaptureFixture[str], *args: str, **environment: str) -> str:
    """What is said to a command line that means nothing."""
    with pytest.raises(SystemExit) as ended:
        run(*args, **environment)
    assert ended.value.code == 2
    return capsys.readouterr().err


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
    assert run(**env) == Settings(name="x", json=False, files=(Path("/a"), Path("/b")), port=1)


def test_an_option_beats_its_variable() -> None:
    assert run("--port=2", COUNTERSIGN_PORT="1").port == 2


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
        list(services.options(Odd))


def test_what_means_nothing_is_refused_with_the_name_of_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert "argument --port: invalid int value: 'x'" in refused(capsys, "--port=x")
    assert "COUNTERSIGN_PORT='x'" in refused(capsys, COUNTERSIGN_PORT="x")
    assert "write one of true, 1" in refused(capsys, COUNTERSIGN_JSON="maybe")
    assert "--por" in refused(capsys, "--por=1")


def test_an_empty_variable_is_none() -> None:
    assert run(COUNTERSIGN_PORT="", COUNTERSIGN_FILES="") == Settings()


def test_a_setting_without_default_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Strict:
        name: str

    assert services.parse(Strict, [], {"COUNTERSIGN_NAME": "x"}) == Strict(name="x")
    with pytest.raises(SystemExit):
        services.parse(Strict, [], {})
    assert "--name or COUNTERSIGN_NAME is required" in capsys.readouterr().err


def test_settings_that_refuse_a_value_end_the_command_with_their_words(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Picky:
        port: int = 1

        def __post_init__(self) -> None:
            if self.port > 65535:
                raise ValueError("port must be under 65536")

    with pytest.raises(SystemExit):
        services.parse(Picky, ["--port=70000"], {})
    assert "port must be under 65536" in capsys.readouterr().err


def test_a_default_that_differs_between_machines_is_not_shown() -> None:
    shown = {option.name: option.default for option in services.options(Settings)}
    assert shown == {
        "name": "n1",
        "port": "8443",
        "share": "0.5",
        "json": "true",
        "kubeconfig": "",
        "files": "",
        "ranges": "10.0.0.0/8",
        "made": "",
    }


@pytest.mark.parametrize("name", services.SERVICES)
def test_every_setting_of_a_service_says_what_it_is_for(name: str) -> None:
    every = list(services.options(services.settings_of(name)))
    assert every
    assert all(option.doc for option in every)


@pytest.mark.parametrize("name", services.SERVICES)
def test_a_service_can_be_run(name: str) -> None:
    assert callable(import_module(f"{services.SERVICES[name].room}.service").run)


FOR_PEOPLE = {"kubernetes", "typer", "rich", "pydantic", "pygments", "urllib3"}
WHEN_NEEDED = {"sigstore", "rfc3161_client", "nacl"}
"""What only some policies' evidence needs."""
NOT_IN = {
    "gate": FOR_PEOPLE | WHEN_NEEDED | {"kopf", "click", "requests"},
    "verifier": FOR_PEOPLE | WHEN_NEEDED | {"kopf", "click", "requests"},
    "controller": FOR_PEOPLE | {"requests"},
}
"""What a service must not hold in memory. kopf is built on click."""


@pytest.mark.parametrize("name", services.SERVICES)
def test_a_service_loads_nothing_that_is_for_people_or_for_other_services(name: str) -> None:
    """It gets as far as the cluster that it cannot reach: all that a running service has is imported by then."""
    program = (
        f"import sys; sys.argv[1:] = ['{name}', '--kubeconfig=/nowhere']\n"
        "from countersign.cli.main import run\n"
        "try: run()\n"
        "except SystemExit as ended: print(ended.code)\n"
        "print(','.join(sys.modules))"
    )
    code, modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    loaded = set(modules.split(","))
    assert code == "1"
    assert {f"countersign.{name}.service", "aiohttp"} <= loaded
    assert not loaded & (NOT_IN[name] | {f"countersign.{other}" for other in services.SERVICES if other != name})


@pytest.mark.parametrize("name", services.SERVICES)
def test_help_of_a_service_loads_nothing_of_the_others(name: str) -> None:
    """Start-up stays cheap, and a service holds in memory only what it uses."""
    program = (
        f"import sys; sys.argv[1:] = ['{name}', '--help']\n"
        "from countersign.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "print(','.join(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = set(output.splitlines()[-1].split(","))
    assert f"countersign.{name}.settings" in loaded
    foreign = {"kubernetes", "kopf", "rich", "typer", "pydantic", "aiohttp", "cryptography", "yaml"}
    foreign |= {f"countersign.{other}" for other in services.SERVICES if other != name}
    assert not loaded & foreign
