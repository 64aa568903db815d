"""`cloister ca`: the authorities of the mesh, replaced while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cloister.cli import root_rotation
from cloister.cli.identities import mesh_root
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, MeshFolder, examples
from cloister.cli.output import say
from cloister.rpc import certificates

app = typer.Typer(help="The authorities that certificates of the mesh lead back to.", no_args_is_help=True)


@app.command(epilog=examples("cloister ca rotate", "cloister ca rotate --days 365"))
def rotate(
    mesh_folder: MeshFolder = FOLDER,
    days: Annotated[int, typer.Option(min=1, max=1825, help="How long the new authority is good for.")] = 1825,
) -> None:
    """Replace the authority that certifies attested workers; a running verifier takes the new one up by itself.

    Certificates that the old one signed stay good until they end, an hour later at most: both lead back to the root.
    """
    mesh = Mesh.read(mesh_folder)
    root = mesh_root(mesh)
    now = datetime.now(UTC)
    authority = certificates.intermediate_ca(root, mesh.cluster, now=now, life=timedelta(days=days))
    root_rotation.replace_authority(mesh, authority)
    ends = authority.certificate.not_valid_after_utc.date().isoformat()
    say(f"workers are certified by a new authority from now on, good until {ends}")


@app.command("add-root", epilog=examples("cloister ca add-root"))
def add_root(mesh_folder: MeshFolder = FOLDER) -> None:
    """Step 1 of 3 to another root: make it, and have it trusted beside the old one."""
    root_rotation.add(Mesh.read(mesh_folder), datetime.now(UTC))
    say("a new root is trusted beside the old one")
    say("now start the workers anew, one after the other, and hand out trust.json and trust_roots.pem again")
    say("then: cloister ca use-root")


@app.command("use-root", epilog=examples("cloister ca use-root"))
def use_root(mesh_folder: MeshFolder = FOLDER) -> None:
    """Step 2 of 3: sign every identity and the workers' authority anew, with the root that was added."""
    renewed = root_rotation.use(Mesh.read(mesh_folder), datetime.now(UTC))
    say(f"{renewed} identities and the workers' authority are signed by the new root")
    say("once every worker has renewed, an hour at most, and identities that were handed out are issued anew:")
    say("cloister ca drop-root")


@app.command("drop-root", epilog=examples("cloister ca drop-root"))
def drop_root(mesh_folder: MeshFolder = FOLDER) -> None:
    """Step 3 of 3: trust the old root no more."""
    root_rotation.drop(Mesh.read(mesh_folder))
    say("the old root is trusted no more; workers forget it when they are next started")
