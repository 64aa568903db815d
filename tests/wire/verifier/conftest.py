"""A verifier over a simulated platform, with real mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloister.ear import SigningKey
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer, redis_running
from fakes.running_services import Running, WireWorker, running_verifier, verifier_settings
from fakes.sim import simulated_platform


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def platform() -> Platform:
    return simulated_platform()


@pytest.fixture
def signing_key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
async def verifier(tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey) -> AsyncIterator[Running]:
    async with running_verifier(verifier_settings(tmp_path, pki, platform, signing_key), pki) as running:
        yield running


@pytest.fixture
def worker(pki: MeshPki, platform: Platform) -> WireWorker:
    return WireWorker(pki, platform)


@pytest.fixture
def redis_server(tmp_path: Path, pki: MeshPki) -> Iterator[RedisServer]:
    with redis_running(tmp_path / "redis", pki) as server:
        yield server
