"""`cloister identity`: certificates for the services and people of a mesh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli import flink_stores, identities
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.identities import Identity, mesh_root
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, examples
from cloister.cli.output import facts, print_json, say, table

app = typer.Typer(help="Certificates for the services and people of a mesh.", no_args_is_help=True)


class Role(StrEnum):
    """Who somebody is in the mesh, and so what they may call."""

    CLIENT = "client"
    OWNER = "owner"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    GATEWAY = "gateway"
    VERIFIER = "verifier"
    PROVISIONER = "provisioner"
    CONSOLE = "console"
    REDIS = "redis"
    ENROL = "enrol"


@app.command(
    epilog=examples(
        "cloister identity issue client ward-7 --out ward-7-mesh",
        "cloister identity issue gateway second --host gateway.example.org",
    )
)
def issue(
    role: Annotated[
        Role, typer.Argument(metavar="ROLE", help="What it may do: client, owner, operator, auditor; or a service.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: a-z 0-9 . _ -")],
    mesh_folder: MeshFolder = FOLDER,
    out: Annotated[
        Path | None,
        typer.Option(help="Make a mesh folder for somebody else: this identity, the addresses and the trust bundle."),
    ] = None,
    host: Annotated[list[str] | None, typer.Option(help="Further name or address of a service; repeat.")] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long the certificate is good for.")] = 365,
) -> None:
    """Issue an identity under the mesh's root CA, whose key must be in DIR/pki.

    Workers are not among the roles: a worker earns its certificate by evidence, from the verifier.
    """
    mesh = Mesh.read(mesh_folder)
    root = mesh_root(mesh)
    if out is not None:
        if out.exists():
            raise Stop(f"{out} exists already; name a new folder for --out")
        out.mkdir(parents=True, mode=0o700)
        mesh.write(out)
        (out / "trust.json").write_bytes(mesh.trust.read_bytes())
    folder = (Mesh.read(out) if out is not None else mesh).identity(role.value, name)
    life = timedelta(days=days)
    identities.issue(root, mesh.cluster, role.value, name, folder, now=datetime.now(UTC), life=life, hosts=host or ())
    issued = identities.described(folder)
    say(f"{issued.spiffe_id} in {folder}")
    if issued.owner_key is not None:
        say(f"workers serve its models once model_owners in their settings names its key: {issued.owner_key}")
        say(f"clients accept its models once their trust bundle does: cloister trust accept --owner {issued.owner_key}")
    if out is not None:
        there = "cloister model list" if issued.owner_key is not None else "cloister infer ..."
        say(f"hand over {out} by a way you trust; it holds a private key. There: {there} --mesh {out.name}")


@app.command(epilog=examples("cloister identity flink ward-7-flink --host flink.example.org"))
def flink(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; stores that are there are replaced.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of the JobManager, besides localhost; repeat.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long the certificates are good for.")] = 365,
) -> None:
    """Make key stores for a Flink cluster: for its processes among themselves, and for its REST interface.

    They are of no mesh, so a data owner makes them without its root CA. A cluster takes up new ones when it is started
    anew. Whoever has rest.p12 and the password may run code in the cluster.
    """
    flink_stores.write(folder, now=datetime.now(UTC), hosts=host or (), life=timedelta(days=days))
    say(f"internal.p12, rest.p12 and their password in {folder}, good for {days} days")


@app.command(
    epilog=examples("cloister identity renew .cloister/identities/gateway/main", "cloister identity renew --all")
)
def renew(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER...", help="Folders of identities.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every identity in the mesh folder.")] = False,
    mesh_folder: MeshFolder = FOLDER,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long the certificates are good for.")] = 365,
) -> None:
    """Give identities new keys and certificates under the mesh's root CA; running services take them up by themselves.

    Names stay as they are, and so does the key that an owner signs models with.
    """
    if bool(folders) == all_:
        raise Stop("name the identities' folders, or --all", ExitCode.USAGE)
    mesh = Mesh.read(mesh_folder)
    root, now = mesh_root(mesh), datetime.now(UTC)
    for folder in folders or [each.folder for each in identities.listed(mesh)]:
        renewed = identities.renew(root, folder, now=now, life=timedelta(days=days))
        say(f"{renewed.spiffe_id} good until {renewed.expires_at.date().isoformat()}")


@app.command("list", epilog=examples("cloister identity list --json"))
def list_(mesh_folder: MeshFolder = FOLDER, as_json: AsJson = False) -> None:
    """List the identities in a mesh folder, and until when they are good."""
    found = list(identities.listed(Mesh.read(mesh_folder)))
    if as_json:
        print_json([_plain(each) for each in found])
        return
    now = datetime.now(UTC)
    rows = [(each.spiffe_id, _until(each, now), (each.owner_key or "")[:16], each.folder) for each in found]
    table(("identity", "good until", "signs models as", "folder"), rows)


@app.command(epilog=examples("cloister identity show .cloister/identities/owner/main"))
def show(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of one identity.")], as_json: AsJson = False
) -> None:
    """Show one identity."""
    found = identities.described(folder)
    if as_json:
        print_json(_plain(found))
    else:
        facts(_plain(found))


def _plain(identity: Identity) -> dict[str, object]:
    return {
        "spiffe_id": identity.spiffe_id,
        "expires_at": identity.expires_at.isoformat(),
        "owner_key": identity.owner_key,
        "folder": str(identity.folder),
    }


def _until(identity: Identity, now: datetime) -> str:
    day = identity.expires_at.date().isoformat()
    return f"{day} (expired)" if identity.expires_at <= now else day
