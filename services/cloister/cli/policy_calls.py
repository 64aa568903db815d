"""`cloister policy explain`, `apply` and `show`: what a policy comes to for the workers there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.api.v1.verifier_pb2 import ApplyPolicyResponse, GetPolicyResponse
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, TrustFile, check_place, examples
from cloister.cli.output import facts, print_json, say, table, warn
from cloister.cli.policy_file import PolicyFile, opened
from cloister.cli.release_explaining import explain_release, is_model
from cloister.cli.trusted import trusted
from cloister.client import (
    Consequence,
    EvidenceFile,
    KeptEvidence,
    TrustBundle,
    anchor_of,
    apply_policy,
    attested_evidence,
    consequences,
    kept_in,
    policy_in_force,
    step_meaning,
    tls_files,
)
from cloister.errors import NotReady
from cloister.rpc.channel import Peer
from cloister.rpc.files import read_public
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name


def add_to(app: typer.Typer) -> None:
    """Give the `policy` command these parts."""
    app.command(
        epilog=examples(
            "cloister policy explain policy.toml",
            "cloister policy explain policy.toml --collateral early.json",
            "cloister policy explain policy.toml --evidence kept --trust trust.json --json",
            "cloister policy explain breast-cancer",
            "cloister policy explain breast-cancer --policy policy.json --json",
        )
    )(explain)
    app.command(epilog=examples("cloister policy apply policy.signed.json"))(apply)
    app.command(epilog=examples("cloister policy show", "cloister policy show --out in-force.json"))(show)


def explain(
    subject: Annotated[
        str,
        typer.Argument(metavar="FILE|MODEL", help="An appraisal policy (a file), or the name of a model."),
    ],
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Judge the *.bundle files there, in place of the workers attested now."),
    ] = None,
    collateral: Annotated[
        Path | None,
        typer.Option(
            help="Judge by this, JSON with QuoteCollateralV3 names, in place of what was used for the family."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a model: judge by this release policy, a draft or signed."),
    ] = None,
    version: Annotated[int, typer.Option(min=0, help="Of a model: for this version; 0 for its newest.")] = 0,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    trust: TrustFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what a policy comes to, and change nothing: an appraisal policy for evidence, a release policy for a key.

    Of an appraisal policy: evidence is judged anew, here, by the collateral that it was accepted with unless you name
    newer: who would stay, who would fall out, by which step and why. Kept evidence is judged under the root in
    --trust, or without it under Intel's.

    Of a model: whether each attested worker would get its key, and what every rule of the release policy demands and
    finds. Acts as the mesh folder's owner, or else its auditor.

    Ends with 3 when somebody would fall out, or would get nothing.
    """
    if is_model(subject):
        if evidence is not None or collateral is not None:
            raise typer.BadParameter("--evidence and --collateral are for an appraisal policy, in a file")
        explain_release(
            subject,
            draft=policy,
            version=version,
            mesh=Mesh.read(mesh_folder),
            identity=identity,
            trust=trust,
            as_json=as_json,
        )
        return
    if policy is not None or version:
        raise typer.BadParameter(f"--policy and --version are for a model, and {subject} is none's name")
    document = opened(Path(subject))
    raw_collateral = _collateral(collateral) if collateral is not None else b""
    if evidence is None:
        mesh = Mesh.read(mesh_folder)
        bundle: TrustBundle | None = trusted(trust or mesh.trust)
        kept = asyncio.run(_attested(mesh, identity))
    else:
        bundle = trusted(trust) if trust is not None else None
        kept = _kept(evidence)
    anchor = bundle.anchor if bundle is not None else anchor_of(None)
    now = datetime.now(UTC)
    found = list(consequences(document.policy, kept, anchor, now, raw_collateral=raw_collateral))
    reasons = {one.found.refusal.reason for one in found if one.found.refusal}
    if collateral is not None and "collateral.malformed" in reasons:
        raise Stop(f"{collateral} is no collateral, so nobody was judged by it", ExitCode.USAGE)
    if as_json:
        print_json([_plain(one) for one in found])
    else:
        _print_consequences(found)
        if bundle is None and any(one.falls for one in found):
            warn("Judged under Intel's root. Evidence from a simulator is judged by its mesh's trust bundle: --trust.")
    if any(one.falls for one in found):
        raise typer.Exit(ExitCode.REFUSED)


def apply(
    file: PolicyFile, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False
) -> None:
    """Put a policy in force, on the running verifier. Workers that it does not believe are revoked at once.

    Acts as the mesh folder's operator. The verifier checks that enough of its policy_signers have signed it and that
    it is not older than the one in force; otherwise that one stays. See who would fall out with 'explain', first.
    """
    document = opened(file)
    mesh = Mesh.read(mesh_folder)

    async def call() -> ApplyPolicyResponse:
        async with _verifier(mesh, identity) as verifier:
            return await apply_policy(verifier, document.raw)

    answer = asyncio.run(call())
    if as_json:
        print_json(_plain_answer(answer))
    else:
        _print_answer(document.policy.policy_id, answer)


def show(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write its exact bytes there, to check or change.")
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show which policy is in force on the running verifier. 'cloister policy check' says what it means."""
    mesh = Mesh.read(mesh_folder)
    check_place(out)

    async def call() -> GetPolicyResponse:
        async with _verifier(mesh, identity) as verifier:
            return await policy_in_force(verifier)

    answer = asyncio.run(call())
    if out is not None:
        if not answer.policy:
            raise Stop("the verifier has no policy of its own: the built-in default is in force, which has no file")
        out.write_bytes(answer.policy)
    shown = {
        "policy_id": answer.policy_id,
        "version": answer.version,
        "digest": answer.digest.hex(),
        "signers": list(answer.signers),
    }
    if as_json:
        print_json(shown)
    else:
        facts({**shown, "version": answer.version or "none", "signers": ", ".join(answer.signers) or "nobody"})


def _collateral(path: Path) -> bytes:
    try:
        return read_public(path)
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error


def _kept(folder: Path) -> list[KeptEvidence]:
    if not folder.is_dir():
        raise Stop(f"{folder} is no folder; 'cloister evidence save DIR' makes one with evidence", ExitCode.USAGE)
    try:
        found = kept_in(folder)
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    if not found:
        raise Stop(f"{folder} holds no *.bundle; 'cloister evidence save {folder}' writes some", ExitCode.USAGE)
    return found


@asynccontextmanager
async def _verifier(mesh: Mesh, identity: Path | None) -> AsyncIterator[Peer]:
    files = tls_files(identity or mesh.identity("operator"))
    async with (
        TlsIdentity.watching(files) as own,
        Peer(mesh.verifier, own, server_name(mesh.cluster, "verifier")) as peer,
    ):
        yield peer


async def _attested(mesh: Mesh, identity: Path | None) -> list[KeptEvidence]:
    async with _verifier(mesh, identity) as verifier:
        return [KeptEvidence(name, EvidenceFile.of(bundle)) async for name, bundle in attested_evidence(verifier)]


def _plain(one: Consequence) -> dict[str, Any]:
    found = one.found
    return {
        "worker": one.name,
        "believed": found.believed,
        "step": found.step,
        "reason": found.refusal.reason if found.refusal else None,
        "message": str(found.refusal) if found.refusal else None,
        "tcb_status": found.verified.tcb.status.value if found.verified else None,
        "advisory_ids": list(found.verified.tcb.advisory_ids) if found.verified else None,
    }


def _print_consequences(found: Sequence[Consequence]) -> None:
    if not found:
        say("no worker is attested now, so nobody would fall out")
        return
    rows = [
        (
            one.name,
            "fall out" if one.falls else "stay",
            one.found.verified.tcb.status.value if one.found.verified else "-",
            "-" if one.found.step is None else one.found.step,
            one.found.refusal.reason if one.found.refusal else "-",
            one.found.refusal or "",
        )
        for one in found
    ]
    table(("worker", "would", "tcb", "step", "reason", "why"), rows)
    fallen = [one for one in found if one.falls]
    for step in sorted({one.found.step or 0 for one in fallen}):
        say(f"step {step}: {step_meaning(step)}")
    say(f"{len(found)} judged: {len(found) - len(fallen)} would stay, {len(fallen)} would fall out")


def _plain_answer(answer: ApplyPolicyResponse) -> dict[str, Any]:
    return {
        "version": answer.version,
        "digest": answer.digest.hex(),
        "stood": answer.stood,
        "revoked": [{"worker": one.instance, "step": one.step, "reason": one.reason} for one in answer.fallen],
        "unjudged": answer.unjudged,
    }


def _print_answer(policy_id: str, answer: ApplyPolicyResponse) -> None:
    say(f"policy '{policy_id}', version {answer.version}, is in force; its digest is {answer.digest.hex()}")
    say(f"{answer.stood} workers are believed as before, {len(answer.fallen)} were revoked")
    if answer.fallen:
        table(("worker", "step", "reason"), [(one.instance, one.step, one.reason) for one in answer.fallen])
        say("they end; started again, they are judged by the policy that is in force then")
    if answer.unjudged:
        warn(f"{answer.unjudged} could not be judged anew, for want of collateral; they stay until their results end.")
