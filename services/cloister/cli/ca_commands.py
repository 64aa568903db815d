"""`cloister ca`: the authorities of the mesh, replaced while it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cloister.cli import identities
from cloister.cli.identities import mesh_root
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, MeshFolder, examples
from cloister.cli.output import say
from cloister.rpc import certificates
from cloister.rpc.files import replace_private

app = typer.Typer(help="The authorities that certificates of the mesh lead back to.", no_args_is_help=True)


@app.callback()
def ca() -> None:
    """The authorities that certificates of the mesh lead back to."""


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
    folder = mesh.folder / "verifier"
    # Between the two the verifier finds a pair that does not fit, keeps what it has, and looks again.
    replace_private(folder / "attested_ca.key", certificates.key_pem(authority.key))
    identities.replace_public(folder / "attested_ca.pem", authority.certificate_pem)
    ends = authority.certificate.not_valid_after_utc.date().isoformat()
    say(f"workers are certified by a new authority from now on, good until {ends}")
