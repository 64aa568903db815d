"""`cloister recovery check` and `restore`: an owner's share, opened on the owner's machine."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer

from cloister.api.v1.recovery_pb2 import ContributeShareResponse, GetRecoveryResponse, RecoverySession
from cloister.cli import recovery_files
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, IdentityFolder, MeshFolder, examples
from cloister.cli.output import facts, say, warn
from cloister.cli.reaching import reached
from cloister.client import recovery as calls
from cloister.client.recovery import SealedShare
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from cloister.seal.hpke import XWING, KeyPair, key_id

ShareFile = Annotated[
    Path | None,
    typer.Option("--share", help="Your share's file. (default: recovery_share.json beside your recovery key)"),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `cloister recovery`."""
    app.command(
        epilog=examples("cloister recovery check", "cloister recovery check --share backup/recovery_share.json")
    )(check)
    app.command(epilog=examples("cloister recovery restore"))(restore)


def check(share: ShareFile = None, mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Say whether your share opens with your recovery key and is whole. Asks nobody, and shows nothing of it."""
    folder = identity or Mesh.read(mesh_folder).identity("owner")
    found = recovery_files.read_share(share or folder / recovery_files.SHARE)
    found.opened(recovery_files.key_pair(folder)).words.wipe()
    say("your share opens and is whole", "bold green")
    facts(
        {
            "mesh": found.cluster,
            "recovery key": found.generation,
            "share": f"{found.index + 1} of {found.holders}, of which {found.threshold} are needed",
        },
        indent="  ",
    )


def restore(
    share: ShareFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether the session's key is the right one.")] = False,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Give your share to a provisioner that has lost its root key. With the last one needed it is whole again.

    Your share is sealed to a key that the provisioner made for this session. That it is the provisioner's, its TLS
    identity says, and so whoever holds the mesh's root: compare the key with what the other holders are shown.
    """
    mesh = Mesh.read(mesh_folder)
    folder = identity or mesh.identity("owner")
    pair = recovery_files.key_pair(folder)
    path = share or folder / recovery_files.SHARE
    kept = recovery_files.read_share(path) if share is not None or path.exists() else None

    async def begin() -> tuple[GetRecoveryResponse, RecoverySession]:
        async with _connected(mesh, folder) as provisioner:
            return await calls.recovery_of(provisioner), await calls.begin(provisioner)

    async def contribute(session: RecoverySession) -> ContributeShareResponse:
        opened = sealed.opened(pair)
        try:
            async with _connected(mesh, folder) as provisioner:
                return await calls.contribute(provisioner, session, opened)
        finally:
            opened.words.wipe()

    found, session = asyncio.run(begin())
    sealed = _current(kept, found, mesh.cluster, pair)
    _say_whom(mesh, session)
    if not yes and not typer.confirm("Give it your share?"):
        raise Stop("nothing was given")
    answer = asyncio.run(contribute(session))
    if answer.restored:
        say(f"restored: {answer.secrets} keys lie under today's root key", "bold green")
        say(f"the record says so in line {answer.audit_sequence}: cloister audit show {answer.audit_sequence}")
    else:
        say(f"your share is there; {answer.missing} more {'is' if answer.missing == 1 else 'are'} needed")


def _connected(mesh: Mesh, identity: Path) -> AbstractAsyncContextManager[Peer]:
    return reached(mesh, identity, "provisioner", mesh.provisioner)


def _current(kept: SealedShare | None, found: GetRecoveryResponse, cluster: str, pair: KeyPair) -> SealedShare:
    """The owner's own file where it is of the key in force, else what the provisioner has stored."""
    generation = found.deal.generation
    if kept is None:
        return SealedShare.of(found.deal, cluster, pair.public)
    if kept.cluster != cluster:
        raise Stop(f"the share is of the mesh {kept.cluster}; name another with --share", ExitCode.USAGE)
    if kept.generation != generation:
        warn(f"Your file is of recovery key {kept.generation}; {generation} is in force, and its share is taken.")
        return SealedShare.of(found.deal, cluster, pair.public)
    return kept


def _say_whom(mesh: Mesh, session: RecoverySession) -> None:
    say(f"recovery session of {server_name(mesh.cluster, 'provisioner')} at {mesh.provisioner}", "bold")
    facts(
        {
            "session": session.session_id.hex(),
            "key": key_id(XWING, session.public_key).hex(),
            "shares": f"{len(session.given)} of {session.threshold} are there",
        },
        indent="  ",
    )
    say("Everybody who gives a share must see the same session and key; ask one of them before you do.")
