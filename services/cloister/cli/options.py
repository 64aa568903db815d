"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.x509 import load_der_x509_certificate

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import DEFAULT_FOLDER, ENVIRONMENT
from cloister.errors import NotReady
from cloister.rpc.files import read_public

MeshFolder = Annotated[
    Path,
    typer.Option("--mesh", "-m", envvar=ENVIRONMENT, help="Mesh folder: addresses, trust bundle and identities."),
]
MeshArgument = Annotated[
    Path, typer.Argument(metavar="DIR", envvar=ENVIRONMENT, help="Mesh folder, as 'cloister init' makes it.")
]
IdentityFolder = Annotated[
    Path | None,
    typer.Option(
        "--identity", "-i", help="Folder of the identity to act as; by default the mesh folder's own for this role."
    ),
]
TrustFile = Annotated[
    Path | None, typer.Option("--trust", help="Trust bundle to judge by; by default trust.json in the mesh folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait at most.")]

At = Annotated[
    str, typer.Option("--at", metavar="TIME", help="Time to judge at, ISO 8601, in UTC unless it says. (default: now)")
]

FOLDER = DEFAULT_FOLDER

_32_BYTES = re.compile(r"[0-9a-f]{64}")


def moment(text: str) -> datetime:
    """The time that an option names, in UTC unless it says; the present where it is empty."""
    if not text:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Stop(f"'{text[:64]}' is no time such as 2026-11-22T12:00:00Z", ExitCode.USAGE) from error


def check_place(file: Path | None) -> None:
    """Nothing is asked or made in vain: the file it is to be kept in can be made."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        wrong = f"{file} is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise Stop(f"{wrong}; name a file in a folder that exists", ExitCode.USAGE)


def root_der(path: Path | None) -> bytes | None:
    """A root certificate of quotes as its file has it, for `anchor_of`; None where none is named."""
    if path is None:
        return None
    try:
        raw = read_public(path)
        load_der_x509_certificate(raw)
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    except ValueError as error:
        raise Stop(f"{path} is no certificate in DER, as the root of quotes is kept (root.der)") from error
    return raw


def examples(*lines: str) -> str:
    """The end of a command's help: commands that work as they stand."""
    return "\n\n".join(("Example:" if len(lines) == 1 else "Examples:", *lines))


def hex_32(values: Iterable[str]) -> frozenset[str]:
    """Measurements or keys as they were given; raises BadParameter for what is not 32 bytes in hex."""
    found = frozenset(values)
    for value in sorted(found):
        if not _32_BYTES.fullmatch(value):
            raise typer.BadParameter(f"'{value[:80]}' is not 64 lower-case hex digits")
    return found


def model_digest(text: str) -> bytes | None:
    """The digest of a model as it was given; None where it was not. Raises BadParameter for what is none."""
    if not text:
        return None
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise typer.BadParameter("a digest is 64 hex digits")
    return digest
