"""`cloister trust`: whom clients believe, and how to change it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, TrustFile, examples, hex_32
from cloister.cli.output import facts, print_json, say, warn
from cloister.client import TrustBundle

app = typer.Typer(help="The trust bundle: whom clients believe.", no_args_is_help=True)


@app.command(epilog=examples("cloister trust show", "cloister trust show --trust trust.json --json"))
def show(mesh_folder: MeshFolder = FOLDER, trust: TrustFile = None, as_json: AsJson = False) -> None:
    """Show whom a trust bundle believes: its verifier, root of quotes, measurements of workers, owners of models."""
    bundle = TrustBundle.read(_path(mesh_folder, trust))
    if as_json:
        print_json(_plain(bundle))
        return
    facts(
        {
            "cluster": bundle.cluster,
            "verifier": f"{bundle.verifier_id}, key {', '.join(sorted(bundle.thumbprints))}",
            "quotes under": "a simulator's root, not Intel's" if bundle.anchor.simulated else bundle.anchor.name,
            "measurements": ", ".join(sorted(bundle.mrenclave or ())) or _without_measurements(bundle),
            "model owners": ", ".join(sorted(bundle.owners or ())) or "any of the mesh",
            "own policy": "yes" if bundle.policy_toml is not None else "the default",
        }
    )
    if bundle.anchor.simulated:
        warn("Workers that this bundle believes prove nothing about hardware.")


@app.command(epilog=examples("cloister trust pin --mrenclave 3f0c...e1", "cloister trust pin --owner 77ab...02"))
def pin(
    mrenclave: Annotated[
        list[str] | None, typer.Option(help="Measurement of workers to believe, 64 hex digits; may be repeated.")
    ] = None,
    owner: Annotated[
        list[str] | None, typer.Option(help="Ed25519 key of an owner whose models to accept, 64 hex digits; repeat.")
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    trust: TrustFile = None,
) -> None:
    """Replace the measurements, or the model owners, that a trust bundle names; what is not named here stays.

    Take both from people you trust, never from the machine that serves the model.
    """
    if not mrenclave and not owner:
        raise Stop("name at least one --mrenclave or --owner to pin", ExitCode.USAGE)
    path = _path(mesh_folder, trust)
    bundle = TrustBundle.read(path)
    if mrenclave:
        bundle = replace(bundle, mrenclave=hex_32(mrenclave))
    if owner:
        bundle = replace(bundle, owners=hex_32(owner))
    part = path.with_suffix(".part")
    part.write_bytes(bundle.to_json())
    part.replace(path)
    say(f"{path} now believes this and nothing else; give it to your clients")


def _path(mesh_folder: Path, trust: Path | None) -> Path:
    return trust if trust is not None else Mesh.read(mesh_folder).trust


def _without_measurements(bundle: TrustBundle) -> str:
    return "those of its own policy" if bundle.pins_code else "none, so no worker is believed: cloister trust pin"


def _plain(bundle: TrustBundle) -> dict[str, object]:
    return {
        "cluster": bundle.cluster,
        "verifier": bundle.verifier_id,
        "thumbprints": sorted(bundle.thumbprints),
        "anchor": bundle.anchor.name,
        "simulated": bundle.anchor.simulated,
        "mrenclave": None if bundle.mrenclave is None else sorted(bundle.mrenclave),
        "owners": None if bundle.owners is None else sorted(bundle.owners),
    }
