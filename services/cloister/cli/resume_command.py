"""`cloister provisioner resume`: go on with a state that was put back, without what is lost."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cloister.api.v1.provisioner_pb2 import ResumeResponse
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder
from cloister.cli.output import print_json, say
from cloister.cli.reaching import reached
from cloister.client.operator import resume as resume_it


def resume(
    reason: Annotated[str, typer.Option(help="Why no newer state can be put back; for the record.")],
    have: Annotated[int, typer.Option(min=0, help="Lines that the state has, as the provisioner says.")] = 0,
    should: Annotated[int, typer.Option(min=0, help="Lines that it should have, as its witnesses know.")] = 0,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """Have a provisioner that refuses to serve an older copy of its state go on with it: what came after is lost.

    Without --have and --should it changes nothing and says what they are. Every model is held from then on: its key is
    released to nobody until its owner has signed a policy anew ('cloister model allow').
    """
    mesh = Mesh.read(mesh_folder)

    async def call() -> ResumeResponse:
        async with reached(mesh, identity or mesh.identity("operator"), "provisioner", mesh.provisioner) as provisioner:
            return await resume_it(provisioner, have=have, should=should, reason=reason)

    answer = asyncio.run(call())
    if as_json:
        print_json({"sequence": answer.audit_sequence, "generation": answer.generation})
        return
    say(f"resumed (line {answer.audit_sequence} of the record); the log goes on as generation {answer.generation}")
    say("every model is held until its owner signs a policy anew: 'cloister model allow'")
