"""`cloister model allow`: the release policy, said in options; set at once, or drafted for several to sign."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from cloister.api.v1.provisioner_pb2 import ReleasePolicy, SignerRule
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, IdentityFolder, MeshFolder, check_place, examples, hex_32
from cloister.cli.output import say, warn
from cloister.cli.owning import owner_connected
from cloister.client import ReleaseTerms, policy_draft
from cloister.errors import InvalidRequest, NotFound

_SIGNER: Final = re.compile(r"([0-9a-f]{64}):([0-9]{1,5}):([0-9]{1,5})")


def add_to(app: typer.Typer) -> None:
    """Give the `model` command this part."""
    app.command(
        epilog=examples(
            "cloister model allow breast-cancer --mrenclave 3f0c...e1",
            "cloister model allow breast-cancer --signer 9a71...04:1:3 --tcb-status UpToDate",
            "cloister model allow breast-cancer --mrenclave 3f0c...e1 --platform 90de...41 --releases-per-hour 60",
            "cloister model allow breast-cancer --mrenclave 3f0c...e1 --draft policy.json",
        )
    )(allow)


def allow(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    mrenclave: Annotated[
        list[str] | None, typer.Option(help="Measurement that may have the key, 64 hex digits; may be repeated.")
    ] = None,
    td_measurement: Annotated[
        list[str] | None, typer.Option(help="Measurement of a TDX trust domain that may have the key, 64 hex; repeat.")
    ] = None,
    signer: Annotated[
        list[str] | None,
        typer.Option(help="MRSIGNER:ISVPRODID:MIN_ISVSVN whose enclaves may have the key; may be repeated."),
    ] = None,
    tcb_status: Annotated[
        list[str] | None, typer.Option(help="TCB status a platform may be in. (default: UpToDate, SWHardeningNeeded)")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Machine that may have the key, by the SHA-256 of its PPID; repeat. (default: any)"),
    ] = None,
    allow_simulated: Annotated[
        bool,
        typer.Option("--allow-simulated", help="Simulated workers may have the key. Whoever runs them can read it."),
    ] = False,
    allow_plain: Annotated[
        bool, typer.Option("--allow-plain", help="Workers may answer requests that are not sealed.")
    ] = False,
    lease: Annotated[int, typer.Option(min=60, max=86_400, help="Seconds until a worker must ask again.")] = 3600,
    releases_per_hour: Annotated[
        int, typer.Option(min=0, help="Most releases in an hour, renewals included; 0 for no bound.")
    ] = 0,
    min_version: Annotated[
        int | None, typer.Option(min=1, help="Older versions are released to nobody, ever. (default: as it is)")
    ] = None,
    draft: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the policy there, for several people to sign.")
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Say who may have a model's key. Replaces what was said before; signed by you, kept in the record.

    Take measurements from a build you made or checked yourself, never from the machine that asks for the key.
    'cloister policy explain MODEL --policy FILE' says what a draft would come to, before anybody signs it.
    """
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")
    check_place(draft)
    terms = ReleaseTerms(
        mrenclave=[_measurement(each) for each in mrenclave or ()],
        td_measurement=[_measurement(each) for each in td_measurement or ()],
        signers=[_signer_rule(each) for each in signer or ()],
        tcb_statuses=tcb_status or ReleaseTerms().tcb_statuses,
        simulated=allow_simulated,
        plain=allow_plain,
        lease_s=lease,
        min_model_version=min_version,
        platforms=sorted(hex_32(platform)) if platform else None,
        releases_per_hour=releases_per_hour,
    )
    if not terms.mrenclave and not terms.td_measurement and not terms.signers:
        raise typer.BadParameter("name at least one --mrenclave, --signer or --td-measurement; nothing means 'anybody'")
    if draft is not None:
        _write(asyncio.run(_drafted(mesh, owner, name, terms)), draft)
        return
    policy, line = _set(mesh, owner, name, terms)
    say(f"policy {policy.version} of {name} holds (line {line} of the provisioner's record)", "bold")
    if policy.version > 1:
        say("Workers that have the key ask for it again within seconds, and drop it where this policy refuses them.")
    if allow_simulated:
        warn("Simulated workers may have this key: whoever owns their machine can read it, and the model.")


async def _drafted(mesh: Mesh, owner: Path, name: str, terms: ReleaseTerms) -> ReleasePolicy:
    async with owner_connected(mesh, owner) as client:
        return await client.draft(name, terms)


def _write(policy: ReleasePolicy, file: Path) -> None:
    file.write_bytes(policy_draft(policy))
    say(f"{file} is policy {policy.version} of {policy.model_name}, signed by nobody yet", "bold")
    whose = f"signer set {policy.signer_set}" if policy.signer_set else "the model's owner"
    say(f"next: 'cloister policy explain {policy.model_name} --policy {file}'; then those of {whose} sign it:")
    say(f"      cloister model sign {file} --key KEY.pem")


def _set(mesh: Mesh, owner: Path, name: str, terms: ReleaseTerms) -> tuple[ReleasePolicy, int]:
    async def call() -> tuple[ReleasePolicy, int]:
        async with owner_connected(mesh, owner) as client:
            return await client.allow(name, **asdict(terms))

    try:
        return asyncio.run(call())
    except NotFound as error:
        raise Stop(
            f"you have published no model '{name}' ({error.reason}); 'cloister model list' shows what you have"
        ) from error
    except InvalidRequest as error:
        if error.reason != "signature.insufficient":
            raise
        raise Stop(
            f"your key alone does not sign for {name} ('cloister model signers {name}' shows who does): write the "
            "policy to a file with --draft, have enough of them sign it, and then 'cloister model apply' it"
        ) from error


def _measurement(text: str) -> str:
    return next(iter(hex_32([text])))


def _signer_rule(text: str) -> SignerRule:
    parts = _SIGNER.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(f"'{text[:80]}' is not MRSIGNER:ISVPRODID:MIN_ISVSVN, such as 9a71...04:1:3")
    return SignerRule(mrsigner=parts[1], isvprodid=int(parts[2]), min_isvsvn=int(parts[3]))
