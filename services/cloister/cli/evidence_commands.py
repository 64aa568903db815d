"""`cloister evidence`: see what workers offer as evidence, and what to believe of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.cli import judging_commands
from cloister.cli.asking import asked_for, connected
from cloister.cli.code_words import code, code_lines
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, Timeout, TrustFile, examples
from cloister.cli.output import facts, print_json, say, warn
from cloister.client import Serving, VerifiedWorker, attested_evidence, tls_files
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

app = typer.Typer(help="Evidence, judged on this machine.", no_args_is_help=True)


@app.callback()
def evidence() -> None:
    """Evidence, judged on this machine."""


@app.command(epilog=examples("cloister evidence show breast-cancer"))
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model whose workers to judge.")],
    version: Annotated[
        str, typer.Option(help="Version or label of the model. (default: the mesh's default version)")
    ] = "",
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    trust: TrustFile = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Fetch the evidence of a model's workers, appraise it here, and show what it proves.

    Ends with 3 when a worker is offered that is not believed, and with 4 when none is offered.
    """
    mesh = Mesh.read(mesh_folder)

    async def call() -> Serving:
        async with connected(mesh, identity, trust) as client, asked_for(model, version):
            return await client.workers(model, version, timeout)

    serving = asyncio.run(call())
    if as_json:
        print_json(_plain(serving))
    else:
        _print(model, serving)
    if serving.refused:
        raise typer.Exit(ExitCode.REFUSED)
    if not serving.believed:
        raise typer.Exit(ExitCode.UNAVAILABLE)


@app.command(epilog=examples("cloister evidence save kept"))
def save(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; made if it is not there.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Keep the evidence of everyone attested now, one INSTANCE.bundle each, to judge later or elsewhere.

    Acts as the mesh folder's auditor. 'cloister evidence verify' judges one, 'cloister policy explain' all of them.
    """
    mesh = Mesh.read(mesh_folder)
    if folder.exists() and not folder.is_dir():
        raise Stop(f"{folder} is a file; name a folder to keep evidence in", ExitCode.USAGE)

    async def call() -> dict[str, bytes]:
        async with (
            TlsIdentity.watching(tls_files(identity or mesh.identity("auditor"))) as own,
            Peer(mesh.verifier, own, server_name(mesh.cluster, "verifier")) as verifier,
        ):
            return {name: bundle.SerializeToString() async for name, bundle in attested_evidence(verifier)}

    kept = asyncio.run(call())
    if not kept:
        say(f"no worker is attested now, so there is nothing to keep, and {folder} was left as it is")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, bundle in kept.items():
        (folder / f"{name}.bundle").write_bytes(bundle)
    say(f"{folder} holds the evidence of {len(kept)} workers")


judging_commands.add_to(app)


def _print(model: str, serving: Serving) -> None:
    for worker in serving.believed:
        say(f"worker {worker.instance} is believed", "bold green")
        facts(_facts(worker), indent="  ")
    for refused in serving.refused:
        say(f"worker {refused.instance} is NOT believed", "bold red")
        facts({"why": refused.error, "reason": refused.error.reason}, indent="  ")
    if not serving.believed and not serving.refused:
        say(f"no worker serves '{model}' now; 'cloister status' shows what workers there are")
    if any(worker.simulated for worker in serving.believed):
        warn("Believed as simulated: the trust bundle names a simulator's root. It proves nothing about hardware.")


def _facts(worker: VerifiedWorker) -> dict[str, object]:
    result = worker.result
    return {
        "serves": f"{worker.model.name}@{worker.model_version}, digest {worker.model_digest.hex()}",
        "signed by": f"owner {worker.owner.hex()}",
        "computes in": worker.model.precision,
        **{f"input {name}": steps for name, steps in worker.model.preprocessing},
        **code_lines(result),
        "platform": f"TCB {result.tcb_status}, evaluation {result.tcb_evaluation}",
        "advisories": ", ".join(result.advisory_ids) or "none",
        "anchor": "a simulator's root, not Intel's" if result.simulated else result.anchor,
        "judged by": "two verifiers here, and the mesh's, all with the same findings",
        "keys": f"sealing {result.hpke_suite}, receipts Ed25519 {result.receipt_key.hex()[:16]}...",
        "result": f"{result.ear_id}, from {result.issued_at.isoformat()} to {result.expires_at.isoformat()}",
        "plain": "may answer plain requests" if worker.allow_plain else "sealed requests only",
    }


def _plain(serving: Serving) -> dict[str, Any]:
    return {
        "believed": [
            {
                "instance": worker.instance,
                "model_version": worker.model_version,
                "model_digest": worker.model_digest.hex(),
                "owner": worker.owner.hex(),
                "precision": worker.model.precision,
                "preprocessing": dict(worker.model.preprocessing),
                "allow_plain": worker.allow_plain,
                **code(worker.result),
                "mrsigner": worker.result.mrsigner,
                "isvprodid": worker.result.isvprodid,
                "isvsvn": worker.result.isvsvn,
                "tcb_status": worker.result.tcb_status,
                "advisory_ids": list(worker.result.advisory_ids),
                "anchor": worker.result.anchor,
                "simulated": worker.simulated,
                "ear_id": worker.result.ear_id,
                "expires_at": worker.result.expires_at.isoformat(),
            }
            for worker in serving.believed
        ],
        "refused": [
            {"instance": refused.instance, "reason": refused.error.reason, "message": str(refused.error)}
            for refused in serving.refused
        ],
    }
