"""`cloister model index`, `load` and `unload`: which models are served now, and an operator's word to change that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from cloister.api.oip.inference_pb2 import RepositoryIndexResponse
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, Timeout, examples
from cloister.cli.output import print_json, say, table
from cloister.cli.reaching import reached
from cloister.client import load_model, model_index, unload_model
from cloister.rpc.channel import Peer

LOAD_S = 300.0
Model = Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="Name, with a version or without.")]


def add_to(app: typer.Typer) -> None:
    """Give the `model` command these parts."""
    app.command(epilog=examples("cloister model index", "cloister model index --json"))(index)
    app.command(epilog=examples("cloister model load iris@2"))(load)
    app.command(epilog=examples("cloister model unload iris@1"))(unload)


def index(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """List every version that some worker serves or should serve, and why it is not served."""
    mesh = Mesh.read(mesh_folder)

    async def call() -> RepositoryIndexResponse:
        async with reached(mesh, identity or mesh.identity("operator"), "gateway", mesh.gateway) as gateway:
            return await model_index(gateway)

    found = asyncio.run(call()).models
    if as_json:
        print_json([{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in found])
        return
    table(("model", "version", "state", "reason"), [(m.name, m.version or "newest", m.state, m.reason) for m in found])
    if not found:
        say("no worker serves a model, or should; see 'cloister status'")


def load(
    model: Model, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, timeout: Timeout = LOAD_S
) -> None:
    """Have the workers load a model, and wait until they have. Without a version: the newest.

    Only workers obey whose settings say 'loadable = true', and only for models of the owners that these name. Who may
    have a key is the owner's to say, as ever ('cloister model allow').
    """
    _ordered(load_model, model, mesh_folder, identity, timeout)
    say(f"loaded {model}", "bold")


def unload(
    model: Model, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, timeout: Timeout = LOAD_S
) -> None:
    """Have the workers answer what is under way, then drop a model and its key. Without a version: all versions."""
    _ordered(unload_model, model, mesh_folder, identity, timeout)
    say(f"unloaded {model}", "bold")


def _ordered(
    order: Callable[[Peer, str, float], Awaitable[None]],
    model: str,
    mesh_folder: MeshFolder,
    identity: IdentityFolder,
    timeout_s: float,
) -> None:
    mesh = Mesh.read(mesh_folder)

    async def call() -> None:
        async with reached(mesh, identity or mesh.identity("operator"), "gateway", mesh.gateway) as gateway:
            await order(gateway, model, timeout_s)

    asyncio.run(call())
