"""A mesh for a worker, with one small model published."""

from __future__ import annotations

import pytest

from fakes import networks
from fakes.logged import logged
from fakes.pki import MeshPki
from fakes.worker_mesh import WorkerMesh

__all__ = ["logged"]


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory):
    return networks.ir(networks.tiny(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def mesh(pki, tmp_path, tiny_files):
    made = WorkerMesh(pki, tmp_path)
    made.provisioner.publish(tmp_path / "models", "tiny", 3, tiny_files)
    async with made.up():
        yield made
