"""The command line, run inside this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from countersign.cli.main import application


def countersign(*args: str, kubeconfig: Path | None = None, input_: str | None = None, **env: str) -> Result:
    """Run `countersign ARGS`; what it prints is in `stdout` and `stderr`, and `exit_code` is the caller's to judge."""
    command = [*args, f"--kubeconfig={kubeconfig}"] if kubeconfig else [*args]
    # Wide, so that tables and messages stand on one line each.
    return CliRunner().invoke(
        application(args[0]), command, input=input_, env={"COLUMNS": "400", **env}, catch_exceptions=False
    )
