"""`cloister recovery`: what opens the provisioner's keys again when its root key is lost, in shares of their owners."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from cloister import dsse
from cloister.api.v1.recovery_pb2 import GetRecoveryResponse, RecoveryDeal
from cloister.cli import identities, recovery_files, recovery_restore
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder, check_place, examples
from cloister.cli.output import alarm, facts, print_json, say, table, warn
from cloister.cli.reaching import reached
from cloister.client import recovery as calls
from cloister.kit.recovery_cards import MAX_ORDERING, ORDER_TYPE, RecoveryCard, check_holders, deal_order
from cloister.rpc.files import read_public, replace_public
from cloister.seal.hpke import XWING, key_id

app = typer.Typer(
    help="Shares of the owners', of which enough open the provisioner's keys when its root key is lost.",
    no_args_is_help=True,
)

Cards = Annotated[
    list[Path], typer.Argument(metavar="CARD...", exists=True, help="recovery_card.json of each owner who is to hold.")
]
Threshold = Annotated[int, typer.Option("--threshold", "-k", min=1, help="How many of them it will take.")]


@app.command(epilog=examples("cloister recovery keygen", "cloister recovery keygen --identity identities/owner/bob"))
def keygen(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Make your recovery key, which a share can be sealed to, and its card for the operator who deals."""
    folder = identity or Mesh.read(mesh_folder).identity("owner")
    card = recovery_files.make(folder)
    say(f"made {folder / recovery_files.KEY}, which stays with you: keep a copy of it elsewhere", "bold")
    facts({"card": folder / recovery_files.CARD, "owner": card.owner, "signed by": card.signing_key}, indent="  ")
    say("next: give the card to the operator, for 'cloister recovery deal'")


@app.command(
    epilog=examples(
        "cloister recovery deal alice.json bob.json carol.json --threshold 2",
        "cloister recovery deal alice.json bob.json dan.json --threshold 2 --order order.json",
    )
)
def deal(
    cards: Cards,
    threshold: Threshold,
    order: Annotated[
        Path | None,
        typer.Option(help="Signed by the present holders ('cloister recovery order'), where there are any."),
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Have the provisioner make a recovery key and seal a share of it to each of these owners. Operators do this.

    Every key that the provisioner keeps is sealed to the recovery key as well, from now on. A threshold of holders can
    open all of them together, with a copy of the provisioner's state: choose both with that in mind.
    """
    mesh = Mesh.read(mesh_folder)
    read = recovery_files.read_cards(cards, mesh.cluster)
    check_holders(read, threshold)
    signed = read_public(order) if order is not None else b""

    async def call() -> tuple[int, int, int]:
        async with reached(mesh, identity or mesh.identity("operator"), "provisioner", mesh.provisioner) as provisioner:
            answer = await calls.deal(provisioner, [card.envelope for card in read], threshold, signed)
            return answer.generation, answer.secrets, answer.audit_sequence

    generation, secrets, line = asyncio.run(call())
    say(
        f"dealt recovery key {generation}: {threshold} of {len(read)} (line {line} of the provisioner's record)", "bold"
    )
    facts({"holders": ", ".join(card.owner for card in read), "keys that it opens": secrets}, indent="  ")
    say("next, each of them: cloister recovery shares")


@app.command(epilog=examples("cloister recovery order alice.json dan.json --threshold 2 --out order.json"))
def order(
    cards: Cards,
    threshold: Threshold,
    out: Annotated[Path, typer.Option("--out", "-o", help="The order; one there already is signed once more.")],
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Sign that a recovery key may be dealt to these: as a holder of the present one, for the first as an owner.

    It serves once. The first takes the signatures of all who have registered a model, whose keys it will open.
    """
    mesh = Mesh.read(mesh_folder)
    folder = identity or mesh.identity("owner")
    signer = identities.signing_key(folder)
    read = recovery_files.read_cards(cards, mesh.cluster)
    check_holders(read, threshold)
    check_place(out)
    present = asyncio.run(_recovery(mesh, folder)).deal
    payload = deal_order(mesh.cluster, present.generation + 1, threshold, read)
    envelope = read_public(out) if out.exists() else dsse.sign(payload, ORDER_TYPE, [signer])
    if dsse.payload(envelope, ORDER_TYPE, most=MAX_ORDERING) != payload:
        raise Stop(f"{out} is an order for other holders; name another file with --out", ExitCode.USAGE)
    replace_public(out, dsse.countersigned(envelope, ORDER_TYPE, signer, most=MAX_ORDERING))
    signed = dsse.signers(read_public(out), ORDER_TYPE, most=MAX_ORDERING)
    if not present.generation:
        say(f"{out} is signed by {len(signed)}; it takes all who have registered a model")
        return
    may = {card.signing_key for card in calls.holders_of(present, mesh.cluster)}
    say(f"{out} is signed by {len(signed & may)} of {len(may)} present holders; it takes {present.threshold}")


@app.command(epilog=examples("cloister recovery status", "cloister recovery status --json"))
def status(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """Say who holds shares of the recovery key, whether you do, and whether they are needed now."""
    mesh = Mesh.read(mesh_folder)
    folder = identity or mesh.identity("owner")
    found = asyncio.run(_recovery(mesh, folder))
    holders = calls.holders_of(found.deal, mesh.cluster)
    mine = identities.owner_key(folder) if (folder / "signing_key.pem").exists() else ""
    if as_json:
        print_json(_plain(found, holders))
        return
    if not holders:
        warn("No recovery key was dealt: if the provisioner's root key is lost, every key under it is lost.")
        return
    deal = found.deal
    say(f"recovery key {deal.generation}: {deal.threshold} of {len(holders)} holders open {found.secrets} keys", "bold")
    rows = [(each.owner, each.signing_key, "you" if each.signing_key == mine else "") for each in holders]
    table(("holder", "signing key", ""), rows)
    if mine and mine not in {each.signing_key for each in holders}:
        warn("You hold no share. Those who do can together open your keys too: do you know them?")
    if found.root_lost:
        alarm("The root key is lost, and the provisioner waits for shares: cloister recovery restore")
        _say_session(found)


@app.command(epilog=examples("cloister recovery shares"))
def shares(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to keep it. (default: recovery_share.json beside your recovery key)"),
    ] = None,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Fetch your share of the recovery key, sealed to you, and check that it opens."""
    mesh = Mesh.read(mesh_folder)
    folder = identity or mesh.identity("owner")
    path = out or folder / recovery_files.SHARE
    check_place(path)
    pair = recovery_files.key_pair(folder)

    async def fetch() -> calls.SealedShare:
        share = calls.SealedShare.of((await _recovery(mesh, folder)).deal, mesh.cluster, pair.public)
        share.opened(pair).words.wipe()
        await recovery_files.keep_share(path, share)
        return share

    share = asyncio.run(fetch())
    say(f"your share of recovery key {share.generation} is in {path}; it opens", "bold")
    say(f"{share.threshold} of {share.holders} are needed. Keep a copy of it, and of your recovery key, elsewhere")


recovery_restore.add_to(app)


async def _recovery(mesh: Mesh, identity: Path) -> GetRecoveryResponse:
    async with reached(mesh, identity, "provisioner", mesh.provisioner) as provisioner:
        return await calls.recovery_of(provisioner)


def _say_session(found: GetRecoveryResponse) -> None:
    if found.HasField("session"):
        session = found.session
        given = f"{len(session.given)} of {session.threshold} shares are there"
        say(f"session {session.session_id.hex()}, key {key_id(XWING, session.public_key).hex()}: {given}")


def _plain(found: GetRecoveryResponse, holders: list[RecoveryCard]) -> dict[str, Any]:
    deal: RecoveryDeal = found.deal
    return {
        "generation": deal.generation,
        "threshold": deal.threshold,
        "holders": [{"owner": each.owner, "signing_key": each.signing_key} for each in holders],
        "secrets": found.secrets,
        "root_lost": found.root_lost,
        "session": {
            "session_id": found.session.session_id.hex(),
            "key_id": key_id(XWING, found.session.public_key).hex(),
            "given": list(found.session.given),
            "refusals_left": found.session.refusals_left,
        }
        if found.HasField("session")
        else None,
    }
