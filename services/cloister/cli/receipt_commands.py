"""`cloister receipt`: check what an enclave answered, later and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.cli.asking import plain, shown
from cloister.cli.code_words import code, place
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, TrustFile, examples
from cloister.cli.output import facts, print_json, say, warn
from cloister.cli.trusted import trusted
from cloister.client import VerifiedReceipt, load_receipt, verify_receipt
from cloister.errors import EvidenceRejected, SealBroken

app = typer.Typer(help="Proofs of answers, checked offline.", no_args_is_help=True)


@app.callback()
def receipt() -> None:
    """Proofs of answers, checked offline."""


@app.command(epilog=examples("cloister receipt verify answer.receipt", "cloister receipt verify answer.receipt --json"))
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As 'cloister infer --receipt' wrote it.")],
    mesh_folder: MeshFolder = FOLDER,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt against the trust bundle alone: which enclave answered what, when, with which model.

    Asks nobody. Ends with 3 when the receipt does not hold. With --json, numbers that are not finite are the texts
    "NaN", "Infinity" and "-Infinity".
    """
    bundle = trusted(trust if trust is not None else Mesh.read(mesh_folder).trust)
    try:
        found = verify_receipt(load_receipt(file), bundle)
    except (EvidenceRejected, SealBroken) as error:
        raise Stop(
            f"the receipt does not hold: {error} ({error.reason}); it was changed, or is not of the mesh and the "
            "workers that the trust bundle names",
            ExitCode.REFUSED,
        ) from error
    if as_json:
        print_json(_plain(found))
        return
    say("the receipt holds", "bold green")
    facts(
        {
            "answered by": f"{place(found.result)} {found.result.measurement}",
            "worker": f"{found.result.instance}, TCB {found.result.tcb_status}",
            "with model": f"{found.body.model_name}@{found.body.model_version}, digest {found.body.model_digest.hex()}",
            "under policy": found.body.policy_digest.hex(),
            "at": found.issued_at.isoformat(timespec="seconds"),
            **{f"asked {name}": f"{list(array.shape)}" for name, array in found.inputs.items()},
            **{f"answered {name}": f"{list(array.shape)} {shown(array)}" for name, array in found.outputs.items()},
        },
        indent="  ",
    )
    if found.simulated:
        warn("What it ran in was simulated: whoever owned the machine could have made this receipt.")


def _plain(found: VerifiedReceipt) -> dict[str, Any]:
    return {
        "holds": True,
        **code(found.result),
        "mrsigner": found.result.mrsigner,
        "instance": found.result.instance,
        "tcb_status": found.result.tcb_status,
        "simulated": found.simulated,
        "ear_id": found.result.ear_id,
        "model_name": found.body.model_name,
        "model_version": found.body.model_version,
        "model_digest": found.body.model_digest.hex(),
        "policy_digest": found.body.policy_digest.hex(),
        "request_id": found.body.request_id.hex(),
        "issued_at": found.issued_at.isoformat(),
        "inputs": plain(found.inputs),
        "outputs": plain(found.outputs),
    }
