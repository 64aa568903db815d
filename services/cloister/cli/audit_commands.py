"""`cloister audit`: read the append-only records of verifier and provisioner."""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.cli import audit_checks
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, examples
from cloister.cli.output import print_json, say, table
from cloister.cli.reaching import reached
from cloister.client import AuditLine, appraisals, releases

app = typer.Typer(help="The append-only records of what was decided, and why.", no_args_is_help=True)

COLUMNS = ("sequence", "time", "event")
LEFT_OUT = ("rows", "request")
"""Of use to programs only: what was written beside the line, and the call that it was written in."""
SHOWN_FIRST = ("reason", "model", "version", "instance", "mrenclave", "td_measurement")


class Record(StrEnum):
    """Which record."""

    RELEASES = "releases"
    APPRAISALS = "appraisals"


_NUMBER = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")


@app.callback()
def audit() -> None:
    """The append-only records of what was decided, and why."""


@app.command(
    "list",
    epilog=examples(
        "cloister audit list --model breast-cancer", "cloister audit list --record appraisals --last 5 --json"
    ),
)
def list_(
    record: Annotated[
        Record, typer.Option(help="Of keys and policies (provisioner), or of evidence (verifier).")
    ] = Record.RELEASES,
    model: Annotated[str, typer.Option(help="Only what concerns this model; of releases.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Only lines after this number.")] = 0,
    last: Annotated[int, typer.Option(min=0, help="Only so many of the newest lines; 0 for all.")] = 0,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """List what verifier or provisioner decided, oldest first: registrations, policies, releases, refusals and why.

    Acts as the mesh folder's auditor; an owner (--identity) sees its own models. Each line's hash is checked.
    """
    if model and record is Record.APPRAISALS:
        raise typer.BadParameter("appraisals are of workers, not of models; leave out --model, or list releases")
    mesh = Mesh.read(mesh_folder)
    lines = asyncio.run(_lines(mesh, identity or mesh.identity("auditor"), record, model, after))
    lines = lines[-last:] if last else lines
    if as_json:
        print_json([{**line.content, "leaf_hash": line.leaf_hash.hex()} for line in lines])
    elif lines:
        table(("line", "time", "event", "details"), [_row(line) for line in lines])
    else:
        say("nothing matches" if model or after else "nothing is recorded yet")


app.command("show", epilog=examples("cloister audit show 17"))(audit_checks.show)
app.command("verify", epilog=examples("cloister audit verify", "cloister audit verify --export record.jsonl --json"))(
    audit_checks.verify
)
app.command("follow", epilog=examples("cloister audit follow"))(audit_checks.follow)


async def _lines(mesh: Mesh, identity: Path, record: Record, model: str, after: int) -> list[AuditLine]:
    if record is Record.APPRAISALS:
        async with reached(mesh, identity, "verifier", mesh.verifier) as verifier:
            return [line async for line in appraisals(verifier, after)]
    async with reached(mesh, identity, "provisioner", mesh.provisioner) as provisioner:
        return [line async for line in releases(provisioner, model, after)]


def _row(line: AuditLine) -> tuple[object, ...]:
    content = line.content
    names = [name for name in SHOWN_FIRST if name in content]
    names += [name for name in content if name not in (*COLUMNS, *SHOWN_FIRST, *LEFT_OUT)]
    details = "  ".join(f"{name}={_short(content[name])}" for name in names)
    return line.sequence, content.get("time", ""), content.get("event", ""), details


def _short(value: Any) -> str:
    """Long numbers by their first digits; --json has them whole."""
    if isinstance(value, list):
        return ",".join(map(_short, value))
    text = str(value)
    return f"{text[:12]}..." if _NUMBER.fullmatch(text) else text
