"""`cloister provisioner status` and `rotate-root`: under which root keys the provisioner's secrets lie."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloister.api.v1.provisioner_pb2 import RootKey
from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, IdentityFolder, MeshFolder
from cloister.cli.output import print_json, say, table
from cloister.cli.probes import OTHER, why_not_serving
from cloister.cli.reaching import reached
from cloister.client import root_keys
from cloister.client import rotate_root as rotate
from cloister.rpc.channel import Peer

LOOK_S: Final = 0.5
STUCK_S: Final = 60.0
"""How long nothing may change before we give up looking."""


def status(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None, as_json: AsJson = False) -> None:
    """Show the root keys by name, where each is kept, and how many secrets lie under it; and who stands by.

    A root key that nothing lies under, and that does not wrap, is needed no more.
    """
    mesh = Mesh.read(mesh_folder)

    async def call() -> list[RootKey]:
        async with reached(mesh, identity or mesh.identity("operator"), "provisioner", mesh.provisioner) as provisioner:
            return await root_keys(provisioner)

    found = asyncio.run(call())
    if as_json:
        print_json([_plain(each) for each in found])
    else:
        table(("root key", "kept in", "wraps", "secrets"), [_shown(each) for each in found])
        for line in asyncio.run(_standbys(mesh, identity or mesh.identity("operator"))):
            say(line)


def rotate_root(mesh_folder: MeshFolder = FOLDER, identity: IdentityFolder = None) -> None:
    """Wrap every secret of the provisioner under the next root key, while keys go on being released.

    The next one is what [next_vault] in the provisioner's settings names or, where they name none, the newest version
    of the key in [vault]. What is cut off goes on by itself, also after a restart; this command may be run again to
    look on.
    """
    mesh = Mesh.read(mesh_folder)

    async def call() -> list[RootKey]:
        async with reached(mesh, identity or mesh.identity("operator"), "provisioner", mesh.provisioner) as provisioner:
            begun = await rotate(provisioner)
            say(f"going over to {begun.to} (line {begun.audit_sequence} of the record); {begun.secrets} secrets to go")
            return await _finished(provisioner)

    found = asyncio.run(call())
    say(f"all {found[0].secrets} secrets lie under {found[0].key_id}; needed no more: {_needless(found)}")


async def _standbys(mesh: Mesh, identity: Path) -> list[str]:
    """What those say that stand by, where there are several provisioners."""
    said = []
    for name, address in mesh.provisioners.items() if len(mesh.provisioners) > 1 else ():
        async with reached(mesh, identity, "provisioner", address) as provisioner:
            reason, what = await why_not_serving(provisioner)
            if reason == OTHER:
                said.append(f"{name} ({address}): {what}")
    return said


async def _finished(provisioner: Peer) -> list[RootKey]:
    """The root keys once nothing lies under any but the first."""
    loop = asyncio.get_running_loop()
    left, changed_at = -1, loop.time()
    while True:
        found = await root_keys(provisioner)
        now_left = sum(each.secrets for each in found if not each.wraps)
        if not now_left:
            return found
        if now_left != left:
            left, changed_at = now_left, loop.time()
        elif loop.time() - changed_at > STUCK_S:
            raise Stop(
                f"{left} secrets lie under another root key still, and their number does not go down; the provisioner "
                "tries again by itself, and its log says why it fails (root.not_rotated, store.altered)"
            )
        await asyncio.sleep(LOOK_S)


def _needless(found: Sequence[RootKey]) -> str:
    return ", ".join(f"{each.key_id} ({each.back_end})" for each in found if not each.wraps) or "none"


def _plain(root_key: RootKey) -> dict[str, str | int | bool]:
    return {
        "key_id": root_key.key_id,
        "back_end": root_key.back_end,
        "wraps": root_key.wraps,
        "secrets": root_key.secrets,
    }


def _shown(root_key: RootKey) -> tuple[str, str, str, int]:
    back_end = root_key.back_end or "not in the settings"
    return root_key.key_id, back_end, "yes" if root_key.wraps else "no", root_key.secrets
