"""`cloister revoke`: take trust from a measurement, signer, platform or instance, at once; and give it back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloister import dsse
from cloister.api.v1.verifier_pb2 import Revocation
from cloister.cli import identities
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, examples
from cloister.cli.output import print_json, say, table
from cloister.cli.reaching import reached
from cloister.client import lift as lift_it
from cloister.client import revocations
from cloister.client import revoke as revoke_it
from cloister.kit.revocation import ORDER_TYPE, Kind, Name, kind_of, lift_order

app = typer.Typer(
    help="What is not believed any more, whatever its evidence says: felt by running workers within seconds.",
    no_args_is_help=True,
)

Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="In hex digits.")]


class Named(StrEnum):
    """What kind of thing is revoked."""

    MEASUREMENT = "measurement"
    SIGNER = "signer"
    PLATFORM = "platform"
    INSTANCE = "instance"


NamedKind = Annotated[Named, typer.Argument(metavar="KIND", help="measurement, signer, platform or instance.")]


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


@app.command("list", epilog=examples("cloister revoke list --json"))
def list_(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """List what is revoked, by whom and why."""
    mesh = Mesh.read(mesh_folder)
    found = asyncio.run(_list(mesh, identity or mesh.identity("operator")))
    if as_json:
        print_json([_plain(each) for each in found])
    elif found:
        table(("kind", "value", "since", "until", "by", "reason"), [list(_plain(each).values()) for each in found])
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
    """Believe it again. Where the verifier's settings name lift_signers, that needs their signed order."""
    mesh, name = Mesh.read(mesh_folder), Name.read(Kind(kind.value), value)
    signed = order.read_bytes() if order is not None else b""

    async def call() -> int:
        async with reached(mesh, identity or mesh.identity("operator"), "verifier", mesh.verifier) as verifier:
            return (await lift_it(verifier, name, reason, signed)).audit_sequence

    sequence = asyncio.run(call())
    say(f"lifted (record {sequence}); workers that went are believed again once they attest anew")


@app.command(
    epilog=examples("cloister revoke order measurement 3f0c...e1 --sign alice/signing_key.pem --out order.json")
)
def order(
    kind: NamedKind,
    value: Value,
    sign: Annotated[list[Path], typer.Option(help="Ed25519 key in PEM to sign with; may be repeated.")],
    out: Annotated[Path, typer.Option(help="The order; one that is there already is signed once more.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Make, or sign once more, the order to lift one revocation. It serves for that one and for no later one."""
    mesh, name = Mesh.read(mesh_folder), Name.read(Kind(kind.value), value)
    found = asyncio.run(_list(mesh, identity or mesh.identity("operator")))
    wanted = next((each for each in found if (kind_of(each.kind), each.value) == name), None)
    if wanted is None:
        raise Stop(f"this {name.kind.value} is not revoked; 'cloister revoke list' tells what is")
    payload = lift_order(mesh.cluster, name, wanted.revoked_at_ms)
    keys = [identities.key_in(path) for path in sign]
    envelope = out.read_bytes() if out.exists() else dsse.sign(payload, ORDER_TYPE, keys)
    if dsse.payload(envelope, ORDER_TYPE) != payload:
        raise Stop(f"{out} is an order for another revocation; name another file with --out", ExitCode.USAGE)
    for key in keys:
        envelope = dsse.countersigned(envelope, ORDER_TYPE, key)
    out.write_bytes(envelope)
    say(f"{out} is signed by {len(dsse.signers(envelope, ORDER_TYPE))}")


def _revoke(name: Name, reason: str, folder: Path, identity: Path | None) -> None:
    mesh = Mesh.read(folder)

    async def call() -> tuple[int, int]:
        async with reached(mesh, identity or mesh.identity("operator"), "verifier", mesh.verifier) as verifier:
            answer = await revoke_it(verifier, name, reason)
            return answer.audit_sequence, answer.members

    sequence, members = asyncio.run(call())
    say(f"{name.kind.value} revoked (record {sequence}); {members} attested workers went")


async def _list(mesh: Mesh, identity: Path) -> list[Revocation]:
    async with reached(mesh, identity, "verifier", mesh.verifier) as verifier:
        return await revocations(verifier)


def _plain(revocation: Revocation) -> dict[str, str | None]:
    return {
        "kind": kind_of(revocation.kind).value,
        "value": revocation.value,
        "since": _time(revocation.revoked_at_ms),
        "until": _time(revocation.ends_at_ms) if revocation.ends_at_ms else None,
        "by": revocation.by,
        "reason": revocation.reason,
    }


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")
