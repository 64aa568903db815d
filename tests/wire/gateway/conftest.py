"""One mesh PKI for the session, and a gateway for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.logged import logged
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, running_gateway

__all__ = ["logged"]


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
async def rig(tmp_path: Path, pki: MeshPki) -> AsyncIterator[Rig]:
    async with running_gateway(tmp_path, pki) as made:
        yield made
