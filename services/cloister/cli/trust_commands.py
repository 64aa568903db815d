"""`cloister trust`: whom clients believe, and how to change it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli import pin_command
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, TrustFile, examples, hex_32
from cloister.cli.output import facts, print_json, say, warn
from cloister.cli.trusted import trusted, write_bundle
from cloister.client import Floors, TrustBundle

app = typer.Typer(help="The trust bundle: whom clients believe.", no_args_is_help=True)


@app.command(epilog=examples("cloister trust show", "cloister trust show --trust trust.json --json"))
def show(mesh_folder: MeshFolder = FOLDER, trust: TrustFile = None, as_json: AsJson = False) -> None:
    """Show whom a trust bundle believes: its verifier, root of quotes, measurements of workers, owners of models."""
    bundle = trusted(_path(mesh_folder, trust))
    if as_json:
        print_json(pin_command.plain(bundle))
        return
    facts(
        {
            "cluster": bundle.cluster,
            "verifier": f"{bundle.verifier_id}, key {', '.join(sorted(bundle.thumbprints))}",
            "verifier pinned": _how_pinned(bundle),
            "quotes under": "a simulator's root, not Intel's" if bundle.anchor.simulated else bundle.anchor.name,
            "measurements": ", ".join(sorted(bundle.mrenclave or ())) or _without_measurements(bundle),
            **pin_command.trust_domains(bundle),
            "model owners": ", ".join(sorted(bundle.owners or ())) or "any of the mesh",
            "its policies": ", ".join(sorted(bundle.verifier_policies or ())) or "any that the verifier has in force",
            "own policy": "yes" if bundle.policy_toml is not None else "the default",
            "sealed by": " or ".join(sorted(bundle.floors.hpke_suites)),
            "version of sealing": f"{bundle.floors.seal_version} or newer",
        }
    )
    if bundle.anchor.simulated:
        warn("Workers that this bundle believes prove nothing about hardware.")


pin_command.add_to(app)


@app.command(epilog=examples("cloister trust accept --mrenclave 3f0c...e1", "cloister trust accept --owner 77ab...02"))
def accept(
    mrenclave: Annotated[
        list[str] | None, typer.Option(help="Measurement of workers to believe, 64 hex digits; may be repeated.")
    ] = None,
    td_measurement: Annotated[
        list[str] | None, typer.Option(help="Measurement of workers in TDX trust domains to believe, 64 hex; repeat.")
    ] = None,
    owner: Annotated[
        list[str] | None, typer.Option(help="Ed25519 key of an owner whose models to accept, 64 hex digits; repeat.")
    ] = None,
    verifier_policy: Annotated[
        list[str] | None, typer.Option(help="Digest of a policy of the verifier whose results count, 64 hex; repeat.")
    ] = None,
    hpke_suite: Annotated[
        list[str] | None, typer.Option(help="Suite that requests may be sealed by: xwing, x25519; may be repeated.")
    ] = None,
    seal_version: Annotated[
        int | None, typer.Option(min=1, help="Oldest version of sealing to put up with; 2 hides lengths.")
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    trust: TrustFile = None,
) -> None:
    """Replace the workers, model owners, policies or floors that a trust bundle names; what is not named here stays.

    Take them from people you trust, never from the machine that serves the model.
    """
    named = {
        "workers": mrenclave,
        "workers in trust domains": td_measurement,
        "model owners": owner,
        "policies of the verifier": verifier_policy,
        "HPKE suites": hpke_suite,
    }
    if not any(named.values()) and seal_version is None:
        raise Stop(
            "name at least one --mrenclave, --td-measurement, --owner, --verifier-policy, --hpke-suite or "
            "--seal-version to accept",
            ExitCode.USAGE,
        )
    path = _path(mesh_folder, trust)
    bundle = trusted(path)
    if mrenclave:
        bundle = replace(bundle, mrenclave=hex_32(mrenclave))
    if td_measurement:
        bundle = replace(bundle, td_measurement=hex_32(td_measurement))
    if owner:
        bundle = replace(bundle, owners=hex_32(owner))
    if verifier_policy:
        bundle = replace(bundle, verifier_policies=hex_32(verifier_policy))
    bundle = replace(bundle, floors=_floors(bundle.floors, hpke_suite, seal_version))
    write_bundle(bundle, path)
    changed = [f"the {what} that you named and no others" for what, values in named.items() if values]
    if seal_version is not None:
        changed.append(f"sealing of version {seal_version} or newer")
    say(f"{path} now believes {', '.join(changed)}; give it to your clients")


def _floors(floors: Floors, hpke_suites: list[str] | None, seal_version: int | None) -> Floors:
    if hpke_suites:
        floors = replace(floors, hpke_suites=frozenset(hpke_suites))
    return floors if seal_version is None else replace(floors, seal_version=seal_version)


def _path(mesh_folder: Path, trust: Path | None) -> Path:
    return trust if trust is not None else Mesh.read(mesh_folder).trust


def _without_measurements(bundle: TrustBundle) -> str:
    if bundle.pins_enclaves:
        return "those of its own policy"
    return "none of enclaves" if bundle.pins_code else "none, so no worker is believed: cloister trust accept"


def _how_pinned(bundle: TrustBundle) -> str:
    pinned = bundle.pinned
    if pinned is None:
        return "no: handed over by whoever founded the mesh"
    on = f"on {pinned.at.date().isoformat()}, under policy {pinned.policy_id} ({pinned.policy_digest[:16]}...)"
    if pinned.verifier_mrenclave is None:
        return f"by the fingerprint of its root CA only, {on}"
    return f"by its evidence, {on}, as {pinned.verifier_mrenclave}"
