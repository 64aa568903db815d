"""`cloister infer`: ask a model."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cloister.cli.asking import asked_for, connected, plain, read_inputs, shown
from cloister.cli.code_words import code, place
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import (
    FOLDER,
    AsJson,
    IdentityFolder,
    MeshFolder,
    Timeout,
    TrustFile,
    check_place,
    examples,
    model_digest,
)
from cloister.cli.output import facts, out, print_json, say, warn
from cloister.client import Answer, Timing, save_receipt


def add_to(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command(
        epilog=examples(
            "cloister infer breast-cancer --input record.json",
            "cloister infer breast-cancer --input records.npz --receipt answer.receipt --json",
        )
    )(infer)


def infer(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    *,
    inputs: Annotated[Path, typer.Option("--input", help="Inputs: .json (lists by input name), .npz or .npy.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    trust: TrustFile = None,
    version: Annotated[
        str, typer.Option(help="Version or label of the model. (default: the mesh's default version)")
    ] = "",
    digest: Annotated[
        str, typer.Option(help="Only the model of this digest may answer, 64 hex digits, from its owner.")
    ] = "",
    plain_request: Annotated[
        bool, typer.Option("--plain", help="Do not seal: gateway and host can read it. Its owner must have allowed it.")
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="Show where the time went, as the gateway tells it.")
    ] = False,
    receipt: Annotated[Path | None, typer.Option(help="Keep the proof of the answer in this file.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the outputs to this .npz file.")] = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Verify who serves a model, seal the inputs to them, and print the answer.

    Evidence of every worker is appraised here, on this machine, before anything is sealed to it. Ends with 3 when none
    is believed, or when the answer is not the one that a believed enclave gave to this request. With --json, numbers
    that are not finite are the texts "NaN", "Infinity" and "-Infinity".
    """
    mesh = Mesh.read(mesh_folder)
    if plain_request and receipt is not None:
        raise Stop("a plain answer has no receipt; leave out --plain or --receipt", ExitCode.USAGE)
    for file in (receipt, output):
        check_place(file)
    wanted = model_digest(digest)

    async def ask() -> Answer:
        async with connected(mesh, identity, trust) as client, asked_for(model, version):
            arrays = read_inputs(inputs, await client.contract(model, version, timeout))
            return await client.infer(
                model,
                arrays,
                version=version,
                digest=wanted,
                sealed=not plain_request,
                timeout_s=timeout,
                timing=timing,
            )

    answer = asyncio.run(ask())
    if receipt is not None and answer.receipt is not None:
        save_receipt(answer.receipt, receipt)
    if output is not None:
        with output.open("wb") as archive:
            np.savez(archive, allow_pickle=False, **answer.outputs)
    if as_json:
        print_json(_plain(answer))
    else:
        _print(answer, receipt)


def _print_timing(timing: Timing) -> None:
    parts = {name: f"{seconds * 1000:.3f} ms" for name, seconds in timing.phases_s.items()}
    shared = f"{timing.batch_requests} requests, {timing.batch_rows} rows" if timing.batch_requests else "not told"
    whole = {"evaluated with": shared, "in the mesh": f"{timing.total_s * 1000:.3f} ms, the gateway's word"}
    facts({**parts, **whole, "measured here": f"{timing.elapsed_s * 1000:.3f} ms"})


def _print(answer: Answer, receipt: Path | None) -> None:
    for name, array in answer.outputs.items():
        say(f"{name} {list(array.shape)}", "bold")
        out.print(shown(array), markup=False)
    if answer.timing is not None:
        _print_timing(answer.timing)
    if answer.worker is None:
        warn("plain request: gateway and host could read it, and nobody vouches for the answer")
        return
    result = answer.worker.result
    where = f"{place(result)} {result.measurement[:16]}..."
    facts(
        {
            "answered by": f"{answer.model_name}@{answer.model_version} in {where}",
            "platform": f"{result.tcb_status}{', SIMULATED' if result.simulated else ''}, judged here",
            "receipt": receipt or "not kept (--receipt FILE)",
        }
    )


def _plain(answer: Answer) -> dict[str, Any]:
    worker = answer.worker
    return {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "outputs": plain(answer.outputs),
        "sealed": worker is not None,
        "timing": asdict(answer.timing) if answer.timing is not None else None,
        "worker": {
            "instance": worker.instance,
            **code(worker.result),
            "tcb_status": worker.result.tcb_status,
            "simulated": worker.simulated,
            "model_digest": worker.model_digest.hex(),
        }
        if worker is not None
        else None,
    }
