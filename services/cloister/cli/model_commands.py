"""`cloister model`: the model owner's commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.cli import (
    allow_command,
    convert_command,
    identities,
    import_zoo_command,
    lease_words,
    quantize_command,
    routing_commands,
    seal_commands,
    sealed_folder,
    serving_commands,
    signing_commands,
)
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, examples
from cloister.cli.output import facts, print_json, say, table
from cloister.cli.owning import owner_connected
from cloister.cli.release_words import LIST_COLUMNS, list_row, plain_policy
from cloister.errors import InvalidRequest, NotReady
from cloister.rpc.files import read_public

app = typer.Typer(
    help="Prepare models, seal and publish them, say who may have their keys, and route them.", no_args_is_help=True
)
convert_command.add_to(app)
quantize_command.add_to(app)
seal_commands.add_to(app)
import_zoo_command.add_to(app)


@app.command(epilog=examples("cloister model publish sealed/breast-cancer-1"))
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="As 'cloister model seal' made it.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Where workers look for sealed models; by default DIR/models.")
    ] = None,
    approval: Annotated[
        Path | None,
        typer.Option(
            help="Its manifest.json, signed by enough of those who sign for the model: 'cloister model sign'."
        ),
    ] = None,
) -> None:
    """Register a sealed model and its key with the provisioner, and put the sealed file where workers look for it.

    Whom 'cloister model allow' has named may have the key: for a new model nobody, for a new version those of the
    versions before. Running workers take a new version within seconds, and drop no request over it.
    """
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")
    signed, found, key = sealed_folder.read(folder, identities.signing_key(owner))
    approved = _approval(approval)

    async def register() -> int:
        async with owner_connected(mesh, owner) as client:
            return await client.register(signed, key, approval=approved)

    try:
        with sealed_folder.placing(folder, models_dir or mesh.models, found) as placed:
            line = asyncio.run(register())
    except InvalidRequest as error:
        if error.reason != "signature.insufficient":
            raise
        raise Stop(
            f"{error}: several people sign for {found.name} ('cloister model signers {found.name}'), so a new version "
            f"needs them too: 'cloister model sign {folder / 'manifest.json'} --key KEY.pem', and then --approval"
        ) from error
    say(f"published {found.name}@{found.version} (line {line} of the provisioner's record)", "bold")
    facts({"sealed file": placed, "digest": found.digest.hex()}, indent="  ")
    say("'cloister model list' shows who may have the key: a policy that the model has already covers this version too")
    say(f"next, if nobody may yet: cloister model allow {found.name} --mrenclave ...")


allow_command.add_to(app)
signing_commands.add_to(app)


@app.command("list", epilog=examples("cloister model list", "cloister model list --json"))
def list_(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """List your models, their versions, who may have their keys, and how many workers hold one now."""
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")

    async def call() -> Sequence[ModelSummary]:
        async with owner_connected(mesh, owner) as client:
            return await client.models()

    models = asyncio.run(call())
    if as_json:
        print_json([_plain(model) for model in models])
        return
    columns = (*LIST_COLUMNS, *lease_words.COLUMNS)
    table(columns, [(*list_row(model), *lease_words.lease_cells(model)) for model in models])
    if not models:
        say("no model yet: 'cloister model seal' makes one, 'cloister model publish' registers it")


serving_commands.add_to(app)
routing_commands.add_to(app)


def _approval(file: Path | None) -> bytes:
    try:
        return b"" if file is None else read_public(file)
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error


def _plain(model: ModelSummary) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "owner": model.owner,
        "signer_set": len(model.signer_sets),
        "held_since": model.held_since,
        **lease_words.lease_facts(model),
        "policy": plain_policy(model.policy) if model.HasField("policy") else None,
    }
