"""What a container that receives a token may be made to run.

A signature says what an image holds; these rules say that what runs is that, and not a shell that the pod's author put
in its place. Args are free where the image has an entrypoint of its own: then they are its data (`pods.launchers`).
"""

from collections.abc import Iterator
from typing import Final

from countersign.api.pod import Container
from countersign.trust.evidence.facts import ImageFacts, PlatformConfig
from countersign.trust.evidence.image_evidence import KnownImage
from countersign.trust.pods.covering import covering_mounts
from countersign.trust.pods.launchers import runs_its_arguments
from countersign.trust.policies.compiled import CompiledPolicy
from countersign.trust.verdicts.problem import Problem

Command = tuple[str, ...]

_SHOWN: Final = 80
"""Characters of a command that a message quotes."""
_COMMAND_REMEDY: Final = (
    "remove `command` so that the image's own entrypoint runs, or ask the policy's owner to list it"
)
_EXEC_REMEDY: Final = "use an HTTP, TCP or gRPC handler, or ask the policy's owner to list it in allowedCommands"


def problems(policy: CompiledPolicy, container: Container, image: KnownImage) -> Iterator[Problem]:
    """What is wrong with a container that receives a token of the policy."""
    if policy.spec.runtime.command != "Any":
        yield from _commands(policy, container, image)
    if policy.denied_env or policy.denied_env_prefixes:
        yield from _environment(policy, container)


def _commands(policy: CompiledPolicy, container: Container, image: KnownImage) -> Iterator[Problem]:
    runtime = policy.spec.runtime
    listed = runtime.allowed_commands
    execs = _execs(container)
    main_is_listed = runtime.command == "Listed" and _is_listed(container.command, listed)
    facts = image.facts
    if facts is None or not facts.configs:
        yield _unknown_entrypoint(container, image, facts)
        return
    if not main_is_listed and not all(_runs_as_built(container, config) for config in facts.configs):
        yield _foreign_command(policy, container, facts)
    covering = next(
        (found for config in facts.configs for found in covering_mounts(container, _lines(container, config), config)),
        None,
    )
    if covering is not None:
        yield Problem(
            "CommandNotAllowed",
            "the programs that the image was built with",
            covering,
            "mount it elsewhere, or build the file into the image",
            container.name,
            container.image,
        )
    for name, command in execs:
        if not _is_listed(command, listed) and not all(_is_entrypoint(command, config) for config in facts.configs):
            yield Problem(
                "CommandNotAllowed",
                "exec handlers that run a listed command or the entrypoint",
                f"{name} runs {_quote(command)}",
                _EXEC_REMEDY,
                container.name,
                container.image,
            )


def _runs_as_built(container: Container, config: PlatformConfig) -> bool:
    """Whether the container runs the image's entrypoint, or without one exactly the image's own command line."""
    command, args = container.command, container.args
    if not command:
        return not args or not runs_its_arguments(config.entrypoint) or (args == config.cmd and not _expands(args))
    if _expands(command):
        return False
    if config.entrypoint and command == config.entrypoint and (not args or not runs_its_arguments(command)):
        return True
    return command + args == config.entrypoint + config.cmd and not _expands(args)


def _lines(container: Container, config: PlatformConfig) -> Iterator[Command]:
    """The command lines by which the programs are known that run."""
    # Where args choose the program, the image's own command names it; else that is data, as args are.
    yield config.entrypoint + config.cmd if runs_its_arguments(config.entrypoint) else config.entrypoint
    yield container.command


def _is_entrypoint(command: Command, config: PlatformConfig) -> bool:
    return bool(command) and command == config.entrypoint and not _expands(command)


def _is_listed(command: Command, listed: tuple[Command, ...]) -> bool:
    return bool(command) and command in listed and not _expands(command)


def _expands(words: Command) -> bool:
    """Whether the kubelet would put variables of the pod in (`$(NAME)`): what runs is then not what is written."""
    return any("$(" in word for word in words)


def _execs(container: Container) -> tuple[tuple[str, Command], ...]:
    """What the kubelet runs inside the container besides its main process, and which member says so."""
    lifecycle = container.lifecycle
    handlers = (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
        ("lifecycle.postStart", lifecycle.post_start if lifecycle else None),
        ("lifecycle.preStop", lifecycle.pre_stop if lifecycle else None),
    )
    return tuple(
        (name, handler.exec.command) for name, handler in handlers if handler is not None and handler.exec is not None
    )


def _foreign_command(policy: CompiledPolicy, container: Container, facts: ImageFacts) -> Problem:
    built = facts.configs[0]
    if container.command:
        found = f"command {_quote(container.command)}"
        expected = (
            f"the image's entrypoint {_quote(built.entrypoint)}" if built.entrypoint else "the image's own command"
        )
        remedy = _COMMAND_REMEDY
    else:
        found = f"args {_quote(container.args)}"
        expected = (
            f"no args: the image's entrypoint {_quote(built.entrypoint)} runs what they name"
            if built.entrypoint
            else "no args: the image has no entrypoint, so args choose the program"
        )
        remedy = "remove `args`, or build the image with an ENTRYPOINT that is the program"
    if policy.spec.runtime.command == "Listed":
        expected += " or a listed command"
    return Problem("CommandNotAllowed", expected, found, remedy, container.name, container.image)


def _unknown_entrypoint(container: Container, image: KnownImage, facts: ImageFacts | None) -> Problem:
    unverifiable = image.unverifiable
    found = unverifiable.message if unverifiable else "no record of it" if facts else "no evidence about the image"
    return Problem(
        "ImageUnverifiable",
        "the entrypoint that the image was built with",
        found,
        "nothing needs to be done" if unverifiable and unverifiable.transient else "create the pod anew",
        container.name,
        container.image,
        transient=unverifiable is not None and unverifiable.transient,
    )


def _environment(policy: CompiledPolicy, container: Container) -> Iterator[Problem]:
    exact, prefixes = policy.denied_env, policy.denied_env_prefixes
    denied = [
        variable.name
        for variable in container.env
        if variable.name in exact or (prefixes and variable.name.startswith(prefixes))
    ]
    if denied:
        yield Problem(
            "EnvNotAllowed",
            "no variable that makes a loader or interpreter run foreign code",
            f"{', '.join(denied[:5])}{' and more' if len(denied) > 5 else ''}",
            "remove the variable, or set it in the image and have that signed",
            container.name,
            container.image,
        )
    for source in container.env_from:
        # The names are those of a ConfigMap or Secret that may change at any time: only the prefix is known.
        if any(name.startswith(source.prefix) for name in exact) or any(
            name.startswith(source.prefix) or source.prefix.startswith(name) for name in prefixes
        ):
            yield Problem(
                "EnvNotAllowed",
                "variables whose names are known, so that none can be a denied one",
                f"envFrom with prefix {source.prefix!r}" if source.prefix else "envFrom without a prefix",
                "list the variables under `env`, or give envFrom a prefix such as CFG_",
                container.name,
                container.image,
            )
            break


def _quote(words: Command) -> str:
    text = "[" + ", ".join(words) + "]"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + "...]"
