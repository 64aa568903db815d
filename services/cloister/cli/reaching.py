"""How the commands of operators and auditors reach a service of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.client import reaching
from cloister.rpc.channel import Peer


@asynccontextmanager
async def reached(mesh: Mesh, identity: Path, role: str, address: str) -> AsyncIterator[Peer]:
    """A service, called as the identity in a folder, which must be of this mesh."""
    async with reaching.reached(address, role, identity) as (peer, cluster):
        if cluster != mesh.cluster:
            raise Stop(f"{identity} is an identity of '{cluster}', and {mesh.folder} is of '{mesh.cluster}'")
        yield peer
