"""`cloister verifier`: the keys that Attestation Results are signed with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli import identities
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.key_rotation import Ring, shown
from cloister.cli.mesh_folder import MAIN, Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, examples
from cloister.cli.output import print_json, say, table
from cloister.client import TrustBundle
from cloister.rpc.spiffe import spiffe_id

app = typer.Typer(help="The keys that Attestation Results are signed with.", no_args_is_help=True)


@app.command(
    "rotate-key",
    epilog=examples("cloister verifier rotate-key", "cloister verifier rotate-key --lead 86400 --sign alice.key"),
)
def rotate_key(
    mesh_folder: MeshFolder = FOLDER,
    sign: Annotated[
        list[Path] | None,
        typer.Option(help="Ed25519 key of who may name the keys; repeat. By default DIR/pki/verifier_keys.key."),
    ] = None,
    lead: Annotated[int, typer.Option(min=0, max=30 * 86_400, help="Seconds until the new key takes over.")] = 600,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long the new key may sign.")] = 365,
    disown: Annotated[
        bool,
        typer.Option(
            "--disown", help="Where a key was stolen: no earlier key is believed any more, what it has signed included."
        ),
    ] = False,
) -> None:
    """Have a new key take over from the one that signs now; nothing is restarted, and nobody's request fails.

    The new key is published at once, and signs after the lead time. The old one is believed until the last result that
    it signed has ended, an hour later; its private half is erased. With --disown the new key signs at once
    and every worker attests anew; requests may fail for the few seconds that takes.
    """
    mesh = Mesh.read(mesh_folder)
    bundle = TrustBundle.read(mesh.trust)
    if bundle.signers is None:
        raise Stop("this mesh pins its verifier's keys one by one; name the new one in settings and trust bundles")
    keys = [identities.key_in(path) for path in sign or (mesh.key_signer,)]
    kid, begins_at, key_set = _ring(mesh).rotate(
        keys,
        datetime.now(UTC),
        trusted=bundle.signers,
        lead=timedelta(seconds=lead),
        life=timedelta(days=days),
        disown=disown,
    )
    newer = bundle.learned(key_set)
    plain = replace(newer, thumbprints=newer.keys().thumbprints)
    identities.replace_public(mesh.trust, plain.to_json())
    say(f"{kid} signs from {begins_at.isoformat(timespec='seconds')} on")


@app.command("keys", epilog=examples("cloister verifier keys", "cloister verifier keys --json"))
def keys_(mesh_folder: MeshFolder = FOLDER, as_json: AsJson = False) -> None:
    """Show the keys in the verifier's folder, and when each signs."""
    path = _ring(Mesh.read(mesh_folder)).path
    try:
        found = shown(path.read_bytes())
    except FileNotFoundError as error:
        raise Stop(f"{path} is not here; the machine of the verifier has it", ExitCode.USAGE) from error
    if as_json:
        print_json(found)
        return
    rows = [(row["kid"], _time(row["nbf"]), _time(row["exp"])) for row in found["keys"]]
    table(("key", "signs from", "until"), rows)


def _ring(mesh: Mesh) -> Ring:
    return Ring(folder=mesh.signing_keys, issuer=str(spiffe_id(mesh.cluster, "verifier", MAIN)))


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()
