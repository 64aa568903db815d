"""`cloister revoke`: take trust from code, machines and models, at once; and give it back."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloister import dsse
from cloister.api.v1.provisioner_pb2 import Withdrawal
from cloister.api.v1.verifier_pb2 import Revocation
from cloister.cli import identities, withdrawing
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, examples
from cloister.cli.output import instant, print_json, say, table, warn
from cloister.cli.reaching import reached
from cloister.client import lift as lift_it
from cloister.client import revocations
from cloister.client import revoke as revoke_it
from cloister.errors import Unavailable
from cloister.kit.revocation import ORDER_TYPE, Kind, Name, kind_of, lift_order

app = typer.Typer(
    help="What is not believed any more, whatever its evidence says: felt by running workers within seconds.",
    no_args_is_help=True,
)

Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="In hex digits; a model by its name, a version by NAME@V.")]


class Named(StrEnum):
    """What kind of thing is revoked."""

    MEASUREMENT = "measurement"
    SIGNER = "signer"
    PLATFORM = "platform"
    INSTANCE = "instance"
    MODEL = "model"
    VERSION = "version"


NamedKind = Annotated[
    Named, typer.Argument(metavar="KIND", help="measurement, signer, platform, instance, model or version.")
]


@app.command(epilog=examples("cloister revoke measurement 3f0c...e1 --reason 'CVE in its runtime'"))
def measurement(
    value: Value, reason: Reason, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None
) -> None:
    """Revoke workers of one measurement (MRENCLAVE, or a trust domain's measurement; 64 hex digits)."""
    _revoke(Name.read(Kind.MEASUREMENT, value), reason, mesh_folder, identity)


@app.command(epilog=examples("cloister revoke signer 77ab...02 --reason 'signing key lost'"))
def signer(value: Value, reason: Reason, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Revoke every enclave of one signer (MRSIGNER, 64 hex digits)."""
    _revoke(Name.read(Kind.SIGNER, value), reason, mesh_folder, identity)


@app.command(epilog=examples("cloister revoke platform 90de...41 --reason 'server stolen'"))
def platform(value: Value, reason: Reason, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Revoke one machine: the SHA-256 of its PPID, as 'cloister audit list --record appraisals --json' names it."""
    _revoke(Name.read(Kind.PLATFORM, value), reason, mesh_folder, identity)


@app.command(epilog=examples("cloister revoke instance 00c1...9f --reason 'behaves oddly'"))
def instance(value: Value, reason: Reason, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Revoke one start of one worker (32 hex digits, from 'cloister status'); started again it is another instance."""
    _revoke(Name.read(Kind.INSTANCE, value), reason, mesh_folder, identity)


@app.command(epilog=examples("cloister revoke model breast-cancer --reason 'it was trained on the wrong data'"))
def model(value: Value, reason: Reason, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Withdraw a model of yours: its key goes to nobody, and running workers drop key and model within seconds."""
    _withdraw("model", value, reason, mesh_folder, identity)


@app.command(epilog=examples("cloister revoke version breast-cancer@2 --reason 'it answers wrongly'"))
def version(value: Value, reason: Reason, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Withdraw one version; workers that serve the newest go back to the highest that is left and allowed."""
    _withdraw("version", value, reason, mesh_folder, identity)


@app.command("list", epilog=examples("cloister revoke list --json"))
def list_(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """List what is revoked or withdrawn, by whom and why."""
    mesh = Mesh.read(mesh_folder)
    who = identity or mesh.identity("operator")
    rows = [_plain(each) for each in asyncio.run(_list(mesh, who))]
    try:
        rows += [_plain_withdrawal(each) for each in asyncio.run(withdrawing.listed(mesh, who))]
    except (Unavailable, TimeoutError):
        warn("The provisioner cannot be reached: which models are withdrawn is not listed.")
    if as_json:
        print_json(rows)
    elif rows:
        table(("kind", "value", "since", "until", "by", "reason"), [list(row.values()) for row in rows])
    else:
        say("nothing is revoked")


@app.command(epilog=examples("cloister revoke lift measurement 3f0c...e1 --reason 'false alarm' --order order.json"))
def lift(
    kind: NamedKind,
    value: Value,
    reason: Reason,
    order: Annotated[Path | None, typer.Option(help="Order that enough people signed, where they must.")] = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Believe it again. Where the verifier's settings name lift_signers, that needs their signed order.

    What was withdrawn is given back by an order that as many of the model's signers signed as must.
    """
    mesh = Mesh.read(mesh_folder)
    signed = order.read_bytes() if order is not None else b""
    if kind.value in withdrawing.KINDS:
        line = withdrawing.lift(mesh, identity, withdrawing.named(kind.value, value), reason, signed)
        say(f"lifted (line {line} of the provisioner's record); workers ask for the key again within seconds")
        return
    name = Name.read(Kind(kind.value), value)

    async def call() -> int:
        async with reached(mesh, identity or mesh.identity("operator"), "verifier", mesh.verifier) as verifier:
            return (await lift_it(verifier, name, reason, signed)).audit_sequence

    sequence = asyncio.run(call())
    say(
        f"lifted (line {sequence} of the verifier's record); workers that went are believed again once they attest anew"
    )


@app.command(
    epilog=examples("cloister revoke order measurement 3f0c...e1 --sign alice/signing_key.pem --out order.json")
)
def order(
    kind: NamedKind,
    value: Value,
    sign: Annotated[list[Path], typer.Option("--sign", "--key", help="Ed25519 key in PEM to sign with; repeat.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The order; one there already is signed once more.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Make, or sign once more, the order to lift one revocation. It serves for that one and for no later one."""
    mesh = Mesh.read(mesh_folder)
    if kind.value in withdrawing.KINDS:
        payload = withdrawing.order_payload(mesh, identity, withdrawing.named(kind.value, value))
    else:
        payload = _order_payload(mesh, identity, Name.read(Kind(kind.value), value))
    keys = [identities.key_in(path) for path in sign]
    envelope = out.read_bytes() if out.exists() else dsse.sign(payload, ORDER_TYPE, keys)
    if dsse.payload(envelope, ORDER_TYPE) != payload:
        raise Stop(f"{out} is an order for another revocation; name another file with --out", ExitCode.USAGE)
    for key in keys:
        envelope = dsse.countersigned(envelope, ORDER_TYPE, key)
    out.write_bytes(envelope)
    say(f"{out} is signed by {len(dsse.signers(envelope, ORDER_TYPE))}")
    say(f"once enough have: cloister revoke lift {kind.value} {value} --reason WHY --order {out}")


def _order_payload(mesh: Mesh, identity: Path | None, name: Name) -> bytes:
    found = asyncio.run(_list(mesh, identity or mesh.identity("operator")))
    wanted = next((each for each in found if (kind_of(each.kind), each.value) == name), None)
    if wanted is None:
        raise Stop(f"this {name.kind.value} is not revoked; 'cloister revoke list' tells what is")
    return lift_order(mesh.cluster, name, wanted.revoked_at_ms)


def _workers(leases: int) -> str:
    return "1 worker" if leases == 1 else f"{leases} workers"


def _withdraw(kind: str, value: str, reason: str, folder: Path, identity: Path | None) -> None:
    what = withdrawing.named(kind, value)
    line, leases = withdrawing.withdraw(Mesh.read(folder), identity, what, reason)
    say(f"{what} withdrawn (line {line} of the provisioner's record)", "bold")
    say(f"{_workers(leases)} had its key, and drop key and model within seconds: 'cloister status'")
    say(f"to give it back: cloister revoke order {kind} {what} --sign KEY.pem --out order.json")


def _revoke(name: Name, reason: str, folder: Path, identity: Path | None) -> None:
    mesh = Mesh.read(folder)

    async def call() -> tuple[int, int]:
        async with reached(mesh, identity or mesh.identity("operator"), "verifier", mesh.verifier) as verifier:
            answer = await revoke_it(verifier, name, reason)
            return answer.audit_sequence, answer.members

    sequence, members = asyncio.run(call())
    say(f"{name.kind.value} revoked (line {sequence} of the verifier's record); {members} attested workers went")


async def _list(mesh: Mesh, identity: Path) -> list[Revocation]:
    async with reached(mesh, identity, "verifier", mesh.verifier) as verifier:
        return await revocations(verifier)


def _plain(revocation: Revocation) -> dict[str, str | None]:
    return {
        "kind": kind_of(revocation.kind).value,
        "value": revocation.value,
        "since": instant(revocation.revoked_at_ms),
        "until": instant(revocation.ends_at_ms) if revocation.ends_at_ms else None,
        "by": revocation.by,
        "reason": revocation.reason,
    }


def _plain_withdrawal(withdrawal: Withdrawal) -> dict[str, str | None]:
    what = withdrawing.what_of(withdrawal)
    return {
        "kind": what.kind,
        "value": str(what),
        "since": instant(withdrawal.withdrawn_at_ms),
        "until": None,
        "by": withdrawal.by,
        "reason": withdrawal.reason,
    }
