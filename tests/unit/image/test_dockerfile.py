"""The Dockerfile against the lab's image: no container engine runs it here, so what it says is compared."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch

from tests.lab.image import contract
from tests.lab.image.application import COMMAND, PROJECT

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order; comments gone, continued lines joined."""
    lines = [line for line in (PROJECT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines()) if name]


def final_stage() -> list[tuple[str, str]]:
    """What follows the last FROM."""
    every = instructions()
    last = max(number for number, (name, _) in enumerate(every) if name == "FROM")
    return every[last + 1 :]


def only(name: str) -> str:
    """The arguments of the one such instruction in the final stage."""
    (found,) = [arguments for instruction, arguments in final_stage() if instruction == name]
    return found


def pairs(name: str) -> dict[str, str]:
    """`A=1 B="2 3"` of the final stage."""
    return dict(word.split("=", 1) for word in shlex.split(only(name)))


def test_entry_point_user_environment_labels_and_ports_are_those_of_the_labs_image() -> None:
    assert json.loads(only("ENTRYPOINT")) == list(contract.ENTRYPOINT)
    assert only("USER") == contract.USER
    assert pairs("ENV") == contract.ENVIRONMENT
    assert pairs("LABEL") == contract.LABELS
    assert {f"{port}/tcp" for port in only("EXPOSE").split()} == set(contract.PORTS)
    assert only("WORKDIR") == "/"


def test_the_user_is_numeric_and_not_root() -> None:
    assert all(int(part) > 0 for part in contract.USER.split(":"))


def test_nothing_runs_in_the_final_stage_which_has_no_shell() -> None:
    assert {name for name, _ in final_stage()} == {"COPY", "ENV", "LABEL", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT"}


def test_the_final_stage_has_our_folder_and_the_librarys_bytecode() -> None:
    assert [arguments for name, arguments in final_stage() if name == "COPY"] == [
        "--from=build /stdlib /usr/lib/python3.11",
        f"--from=build {contract.HOME} {contract.HOME}",
    ]
    script = " ".join(arguments for name, arguments in instructions() if name == "RUN")
    assert script.count(f"--target {contract.LIBRARY} ") == 2
    assert f"operator/bin/countersign {contract.COMMAND}" in script


def test_what_the_build_copies_is_admitted_by_dockerignore_and_exists() -> None:
    patterns = (PROJECT / ".dockerignore").read_text().split()
    assert patterns[0] == "*"
    admitted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    copied = [
        source
        for name, arguments in instructions()
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (PROJECT / source).exists(), source
        assert source.split("/")[0] in admitted, source


def test_both_bases_are_the_same_python_as_the_labs() -> None:
    defaults = dict(arguments.split("=", 1) for name, arguments in instructions() if name == "ARG")
    assert fnmatch(defaults["BUILD"], f"python:{contract.PYTHON.removeprefix('/usr/bin/python')}-*-bookworm")
    assert "/distroless/python3-debian12" in defaults["BASE"]


def test_the_entry_point_names_the_images_interpreter() -> None:
    first = COMMAND.read_text().splitlines()[0]
    assert first.split()[0] == f"#!{contract.PYTHON}"
    assert COMMAND.stat().st_mode & 0o111


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((PROJECT / "requirements" / name).read_text()))


def test_the_image_holds_the_packages_of_the_project_without_its_extra() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = {re.split("[>=<]", text)[0].lower() for text in project["dependencies"]}
    lines = (PROJECT / "requirements" / "image.in").read_text().lower().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == wanted
    extra = {re.split("[>=<]", text)[0].lower() for text in project["optional-dependencies"]["cli"]}
    assert not extra & set(pins("image.txt"))
    assert extra <= set(pins("run.txt"))


def test_the_image_has_the_versions_that_the_tests_ran_with() -> None:
    image, tested = pins("image.txt"), pins("dev.txt")
    assert image
    assert {name: tested.get(name) for name in image} == image
