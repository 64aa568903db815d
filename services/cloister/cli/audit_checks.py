"""`cloister audit show|verify|follow`: the provisioner's record, believed for its proofs and not for its operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.cli.audit_words import audit_plain, line_plain, line_title, pinning, verdict
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, check_place
from cloister.cli.output import facts, print_json, print_json_line, say, warn
from cloister.cli.reaching import reached
from cloister.client.audit_export import AuditExport, verify_export
from cloister.client.audit_memory import FILE, AuditMemory
from cloister.client.bundle import TrustBundle
from cloister.client.log_audit import LogAudit
from cloister.client.log_auditor import LogAuditor
from cloister.rpc.files import read_public
from cloister.rpc.identity import peer_of

Memory = Annotated[
    Path | None,
    typer.Option(
        "--memory", metavar="FILE", help="What was found good before; by default audit.json in the mesh folder."
    ),
]


def verify(
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Keep all of it, to check elsewhere.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Check such a file; reaches no mesh.")
    ] = None,
    accept_resume: Annotated[
        bool,
        typer.Option("--accept-resume", help="For an owner who was told of a loss: go on from what is left."),
    ] = False,
    memory: Memory = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole record of keys and policies: signatures, witnesses, every line, and that nothing has changed.

    Nothing of it is believed for the word of who runs the mesh. The first time, the keys of the record and of its
    witness are pinned; each time, the newest head that is good is kept, and what it covers may never change again. An
    owner (--identity) has its own lines checked.
    """
    if source is not None:
        if export is not None:
            raise typer.BadParameter("--from reads a file and --export writes one; name one of them")
        _tell(verify_export(source, AuditMemory(memory or mesh_folder / FILE)), as_json, source=str(source))
        return
    check_place(export)
    mesh = Mesh.read(mesh_folder)
    kept = memory or mesh.folder / FILE
    audited = _verify(mesh, identity or mesh.identity("auditor"), kept, export, accept_resume=accept_resume)
    _tell(asyncio.run(audited), as_json, memory=str(kept))


def show(
    number: Annotated[int, typer.Argument(min=1, metavar="N", help="Number of the line.")],
    memory: Memory = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show one line of the record, what it means, and the proof that it is under a countersigned head."""
    mesh = Mesh.read(mesh_folder)
    kept = memory or mesh.folder / FILE

    async def shown() -> None:
        async with _auditor(mesh, identity or mesh.identity("auditor"), kept) as auditor:
            proven = await auditor.show(number)
        if proven.pinned is not None:
            warn(pinning(proven.pinned, str(kept)))
        if as_json:
            proof = [each.hex() for each in proven.proof]
            print_json({**line_plain(proven.line), "checkpoint": str(proven.head.note), "proof": proof})
            return
        say(f"line {number}: {line_title(proven.line)}")
        facts({name: value for name, value in proven.line.content.items() if name != "sequence"}, indent="  ")
        say(
            f"proven to be line {number} of the {proven.head.head.size} under this head, by {len(proven.proof)} hashes:"
        )
        say(str(proven.head.note).rstrip("\n"))

    asyncio.run(shown())


def follow(
    memory: Memory = None, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False
) -> None:
    """Check the whole record, and then show each new line once it is countersigned and proven; until interrupted."""
    mesh = Mesh.read(mesh_folder)
    kept = memory or mesh.folder / FILE

    async def followed() -> None:
        async with _auditor(mesh, identity or mesh.identity("auditor"), kept) as auditor:
            async for found in auditor.follow():
                if as_json:
                    print_json_line(audit_plain(found) if isinstance(found, LogAudit) else line_plain(found))
                elif isinstance(found, LogAudit):
                    _tell(found, as_json, memory=str(kept))
                else:
                    say(f"{found.sequence}  {found.content.get('time', '')}  {line_title(found)}")

    asyncio.run(followed())


async def _verify(mesh: Mesh, identity: Path, memory: Path, export: Path | None, *, accept_resume: bool) -> LogAudit:
    async with _auditor(mesh, identity, memory) as auditor:
        if export is None:
            return await auditor.verify(accept_resume=accept_resume)
        shown = AuditExport(export)
        try:
            return await auditor.verify(shown, accept_resume=accept_resume)
        finally:
            shown.write()  # most of all where something is wrong


@asynccontextmanager
async def _auditor(mesh: Mesh, identity: Path, memory: Path) -> AsyncIterator[LogAuditor]:
    async with (
        reached(mesh, identity, "verifier", mesh.verifier) as verifier,
        reached(mesh, identity, "provisioner", mesh.provisioner) as provisioner,
    ):
        owner = peer_of(read_public(identity / "certificate.pem")).role == "owner"
        witness = TrustBundle.read(mesh.trust).witness_key
        yield LogAuditor(verifier, provisioner, AuditMemory(memory), witness=witness, owner=owner)


def _tell(audit: LogAudit, as_json: bool, **where: Any) -> None:
    if as_json:
        print_json({**audit_plain(audit), **where})
        return
    good, warnings = verdict(audit, **where)
    for text in warnings:
        warn(text)
    say(good)
