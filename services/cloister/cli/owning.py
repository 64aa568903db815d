"""How a model owner's commands reach the provisioner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloister.cli import identities
from cloister.cli.mesh_folder import Mesh
from cloister.client import OwnerClient


@asynccontextmanager
async def owner_connected(mesh: Mesh, owner: Path) -> AsyncIterator[OwnerClient]:
    """The provisioner, called as the owner's identity in a folder, with the signing key in it."""
    signer = identities.signing_key(owner)
    async with OwnerClient.connect(mesh.provisioner, identity=owner, signer=signer) as client:
        yield client
