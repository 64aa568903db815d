"""`cloister model`: the model owner's commands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister.api.v1.provisioner_pb2 import ModelSummary, ReleasePolicy, SignerRule
from cloister.cli import (
    convert_command,
    identities,
    lease_words,
    quantize_command,
    routing_commands,
    seal_commands,
    sealed_folder,
    serving_commands,
)
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, examples
from cloister.cli.output import facts, print_json, say, table, warn
from cloister.client import OwnerClient
from cloister.errors import NotFound

app = typer.Typer(
    help="Prepare models, seal and publish them, say who may have their keys, and route them.", no_args_is_help=True
)
convert_command.add_to(app)
quantize_command.add_to(app)
seal_commands.add_to(app)

_SIGNER = re.compile(r"([0-9a-f]{64}):([0-9]{1,5}):([0-9]{1,5})")
_MEASUREMENT = re.compile(r"[0-9a-f]{64}")


@app.command(epilog=examples("cloister model publish sealed/breast-cancer-1"))
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="As 'cloister model seal' made it.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Where workers look for sealed models; by default DIR/models.")
    ] = None,
) -> None:
    """Register a sealed model and its key with the provisioner, and put the sealed file where workers look for it.

    Whom 'cloister model allow' has named may have the key: for a new model nobody, for a new version those of the
    versions before. Running workers take a new version within seconds, and drop no request over it.
    """
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")
    signed, found, key = sealed_folder.read(folder, identities.signing_key(owner))

    async def register() -> int:
        async with _connected(mesh, owner) as client:
            return await client.register(signed, key)

    with sealed_folder.placing(folder, models_dir or mesh.models, found) as placed:
        line = asyncio.run(register())
    say(f"published {found.name}@{found.version} (line {line} of the provisioner's record)", "bold")
    facts({"sealed file": placed, "digest": found.digest.hex()}, indent="  ")
    say("'cloister model list' shows who may have the key: a policy that the model has already covers this version too")
    say(f"next, if nobody may yet: cloister model allow {found.name} --mrenclave ...")


@app.command(
    epilog=examples(
        "cloister model allow breast-cancer --mrenclave 3f0c...e1",
        "cloister model allow breast-cancer --signer 9a71...04:1:3 --tcb-status UpToDate",
    )
)
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
    allow_simulated: Annotated[
        bool,
        typer.Option("--allow-simulated", help="Simulated workers may have the key. Whoever runs them can read it."),
    ] = False,
    allow_plain: Annotated[
        bool, typer.Option("--allow-plain", help="Workers may answer requests that are not sealed.")
    ] = False,
    lease: Annotated[int, typer.Option(min=60, max=86_400, help="Seconds until a worker must ask again.")] = 3600,
    min_version: Annotated[int, typer.Option(min=1, help="Older versions are released to nobody.")] = 1,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Say who may have a model's key. Replaces what was said before; signed by you, kept in the record.

    Take measurements from a build you made or checked yourself, never from the machine that asks for the key.
    """
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")
    measurements = [_measurement(each) for each in mrenclave or ()]
    domains = [_measurement(each) for each in td_measurement or ()]
    signers = [_signer_rule(each) for each in signer or ()]
    if not measurements and not domains and not signers:
        raise typer.BadParameter("name at least one --mrenclave, --signer or --td-measurement; nothing means 'anybody'")

    async def call() -> tuple[ReleasePolicy, int]:
        async with _connected(mesh, owner) as client:
            return await client.allow(
                name,
                mrenclave=measurements,
                td_measurement=domains,
                signers=signers,
                tcb_statuses=tcb_status or ("UpToDate", "SWHardeningNeeded"),
                simulated=allow_simulated,
                plain=allow_plain,
                lease_s=lease,
                min_model_version=min_version,
            )

    try:
        policy, line = asyncio.run(call())
    except NotFound as error:
        raise Stop(
            f"you have published no model '{name}' ({error.reason}); 'cloister model list' shows what you have"
        ) from error
    say(f"policy {policy.version} of {name} holds (line {line} of the provisioner's record)", "bold")
    if policy.version > 1:
        say("Workers that have the key ask for it again within seconds, and drop it where this policy refuses them.")
    if allow_simulated:
        warn("Simulated workers may have this key: whoever owns their machine can read it, and the model.")


@app.command("list", epilog=examples("cloister model list", "cloister model list --json"))
def list_(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """List your models, their versions, who may have their keys, and how many workers hold one now."""
    mesh = Mesh.read(mesh_folder)
    owner = identity or mesh.identity("owner")

    async def call() -> Sequence[ModelSummary]:
        async with _connected(mesh, owner) as client:
            return await client.models()

    models = asyncio.run(call())
    if as_json:
        print_json([_plain(model) for model in models])
        return
    rows = [
        (f"{model.name}@{model.version}", model.owner, *_policy_cells(model), *lease_words.lease_cells(model))
        for model in models
    ]
    table(
        ("model", "owner", "policy", "measurements", "signers", "simulated", "plain requests", *lease_words.COLUMNS),
        rows,
    )
    if not models:
        say("no model yet: 'cloister model seal' makes one, 'cloister model publish' registers it")


serving_commands.add_to(app)
routing_commands.add_to(app)


@asynccontextmanager
async def _connected(mesh: Mesh, owner: Path) -> AsyncIterator[OwnerClient]:
    signer = identities.signing_key(owner)
    async with OwnerClient.connect(mesh.provisioner, identity=owner, signer=signer) as client:
        yield client


def _policy_cells(model: ModelSummary) -> tuple[object, ...]:
    if not model.HasField("policy"):
        return ("none: nobody may have the key", "", "", "", "")
    policy = model.policy
    may = {True: "yes", False: "no"}
    return (
        policy.version,
        len(policy.mrenclave) + len(policy.td_measurement),
        len(policy.signers),
        may[policy.allow_simulated],
        may[policy.allow_plain],
    )


def _plain(model: ModelSummary) -> dict[str, Any]:
    policy = model.policy
    return {
        "name": model.name,
        "version": model.version,
        "owner": model.owner,
        **lease_words.lease_facts(model),
        "policy": {
            "version": policy.version,
            "mrenclave": list(policy.mrenclave),
            "td_measurement": list(policy.td_measurement),
            "signers": [
                {"mrsigner": rule.mrsigner, "isvprodid": rule.isvprodid, "min_isvsvn": rule.min_isvsvn}
                for rule in policy.signers
            ],
            "tcb_statuses": list(policy.tcb_statuses),
            "allow_simulated": policy.allow_simulated,
            "allow_plain": policy.allow_plain,
            "lease_s": policy.lease_s,
            "min_model_version": policy.min_model_version,
        }
        if model.HasField("policy")
        else None,
    }


def _measurement(text: str) -> str:
    if not _MEASUREMENT.fullmatch(text):
        raise typer.BadParameter(f"'{text[:80]}' is no measurement: 64 lower-case hex digits")
    return text


def _signer_rule(text: str) -> SignerRule:
    parts = _SIGNER.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(f"'{text[:80]}' is not MRSIGNER:ISVPRODID:MIN_ISVSVN, such as 9a71...04:1:3")
    return SignerRule(mrsigner=parts[1], isvprodid=int(parts[2]), min_isvsvn=int(parts[3]))
