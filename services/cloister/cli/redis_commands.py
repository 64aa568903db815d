"""`cloister redis`: the Redis of a mesh's own, given to an older mesh, and its secrets replaced."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from cloister.cli import identities, redis_files, running, settings_text
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import MAIN, Mesh
from cloister.cli.options import FOLDER, MeshFolder, examples
from cloister.cli.output import say
from cloister.cli.ports import free_ports, port_of

app = typer.Typer(help="The Redis of the mesh's own, where jobs wait.", no_args_is_help=True)


@app.command(epilog=examples("cloister redis add", "cloister redis add --host 10.0.0.7"))
def add(
    mesh_folder: MeshFolder = FOLDER,
    host: Annotated[list[str] | None, typer.Option(help="Further name or address of this Redis; repeat.")] = None,
) -> None:
    """Give a mesh that was founded without one a Redis of its own, so that it takes jobs; 'cloister up' starts it."""
    mesh = Mesh.read(mesh_folder)
    settings = mesh.settings("gateway")
    if mesh.redis_folder.exists() or redis_files.url_of_jobs(mesh):
        raise Stop(
            f"{mesh.redis_folder} exists, or {settings} names a Redis; they were left as they are", ExitCode.USAGE
        )
    held = [
        mesh.gateway,
        mesh.verifier,
        *mesh.provisioners.values(),
        mesh.verifier_https,
        mesh.gateway_https,
        mesh.console,
    ]
    taken = [port_of(address) for address in held if address]
    (port,) = free_ports(1, besides=taken, first=min(taken))
    mesh = replace(mesh, redis=f"127.0.0.1:{port}")
    names = ("localhost", "127.0.0.1", *(host or ()))
    folder = mesh.identity("redis", MAIN)
    root = identities.mesh_root(mesh)
    identities.issue(root, mesh.cluster, "redis", MAIN, folder, now=datetime.now(UTC), hosts=names)
    redis_files.found(mesh)
    mesh.write(mesh.folder)
    settings.write_text(settings.read_text() + settings_text.redis_of(mesh, "gateway"))
    say(f"{mesh.redis_folder} holds a Redis for {mesh.redis}; the next 'cloister up' starts it, and takes jobs")


@app.command(epilog=examples("cloister redis rotate", "cloister redis rotate --shared-key"))
def rotate(
    mesh_folder: MeshFolder = FOLDER,
    shared_key: Annotated[
        bool, typer.Option("--shared-key", help="Also the keys that what is kept there is under; it is put aside.")
    ] = False,
) -> None:
    """Replace the passwords of Redis's users; a running mesh takes them up by itself, within seconds.

    Jobs cannot be submitted for the moment in which Redis starts anew; none is lost. Shared keys are replaced only
    while the mesh is down, and what was kept under the old ones cannot be used any more. What services must be allowed
    since the mesh was founded is added to the access list.
    """
    mesh = Mesh.read(mesh_folder)
    if not (mesh.redis_folder / redis_files.CONFIGURATION).exists():
        raise Stop(f"there is no Redis in {mesh.redis_folder}; 'cloister redis add' makes one", ExitCode.USAGE)
    if shared_key and running.is_up(mesh.folder):
        raise Stop(f"the mesh is up; stop it first, with 'cloister down {mesh.folder}'", ExitCode.USAGE)
    say(f"new passwords: {', '.join(redis_files.rotate_passwords(mesh))}")
    if made := redis_files.add_verifier_key(mesh):
        say(f"{made} is for verifiers alone: where their settings name {redis_files.SHARED_KEY}, name it instead")
    if shared_key:
        aside = redis_files.rotate_shared_key(mesh, datetime.now(UTC))
        say("new shared keys" + (f"; what was kept under the old ones is in {aside}" if aside.exists() else ""))
