"""The policy that a command is about: its argument, and the file it names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.client import PolicyDocument, read_policy
from cloister.errors import NotReady

PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A policy: TOML, or the envelope that 'sign' makes.")]


def opened(file: Path) -> PolicyDocument:
    """The policy in a file; one that cannot be read is wrong usage, one that does not load raises InvalidRequest."""
    try:
        return read_policy(file)
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error
