"""One authority and one Redis for all tests of this folder that change nothing there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes.pki import MeshPki
from fakes.redis_server import RedisServer, redis_running
from fakes.redis_topologies import DURABLE, Clustered, Watched, clustered, watched


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory, pki: MeshPki) -> Iterator[RedisServer]:
    with redis_running(tmp_path_factory.mktemp("redis") / "one", pki, lines=DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def redis_watched(tmp_path_factory: pytest.TempPathFactory, pki: MeshPki) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("watched"), pki) as group:
        yield group


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory, pki: MeshPki) -> Iterator[Clustered]:
    with clustered(tmp_path_factory.mktemp("cluster"), pki) as group:
        yield group
