"""How the commands of operators and auditors reach a service of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloister.cli.mesh_folder import Mesh
from cloister.client import tls_files
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name


@asynccontextmanager
async def reached(mesh: Mesh, identity: Path, role: str, address: str) -> AsyncIterator[Peer]:
    """A service, called as the identity in a folder."""
    async with (
        TlsIdentity.watching(tls_files(identity)) as own,
        Peer(address, own, server_name(mesh.cluster, role)) as peer,
    ):
        yield peer
