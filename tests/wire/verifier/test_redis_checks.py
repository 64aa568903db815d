"""What a verifier refuses to keep its state in (attacks H06)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloister.errors import NotReady, Unavailable
from cloister.kit.redis import RedisSettings, connected
from cloister.kit.redis_checks import check_server
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer, access_list, redis_running
from fakes.running_services import private_file


async def checked(settings: RedisSettings) -> None:
    try:
        async with connected(settings) as client:
            await check_server(client, settings)
    finally:
        # Connections that were refused end in their own time, and before the loop does.
        await asyncio.sleep(0.05)


async def why_not(settings: RedisSettings) -> tuple[str, str]:
    with pytest.raises(NotReady) as refused:
        await checked(settings)
    return refused.value.reason, str(refused.value)


async def test_a_closed_redis_will_do(redis_server: RedisServer) -> None:
    await checked(redis_server.settings())


@pytest.mark.attack("H06")
async def test_a_redis_that_serves_without_a_password(tmp_path: Path, pki: MeshPki) -> None:
    users = access_list(pki.cluster, "user default on nopass ~* +@all")
    with redis_running(tmp_path / "open", pki, users=users) as server:
        reason, said = await why_not(server.settings())
    assert reason == "redis.exposed"
    assert "user default off" in said


@pytest.mark.attack("H06")
async def test_a_redis_that_asks_for_no_certificate(tmp_path: Path, pki: MeshPki) -> None:
    with redis_running(tmp_path / "open", pki, lines="tls-auth-clients no") as server:
        reason, said = await why_not(server.settings())
    assert reason == "redis.exposed"
    assert "tls-auth-clients yes" in said


@pytest.mark.attack("H06")
async def test_a_redis_that_listens_without_tls_too(tmp_path: Path, pki: MeshPki) -> None:
    with redis_running(tmp_path / "probe", pki) as probe:
        free = probe.port
    with redis_running(tmp_path / "open", pki, lines=f"port {free}") as server:
        reason, said = await why_not(server.settings())
    assert reason == "redis.exposed"
    assert "port 0" in said


async def test_a_redis_that_drops_keys_when_full(tmp_path: Path, pki: MeshPki) -> None:
    with redis_running(tmp_path / "open", pki, lines="maxmemory-policy allkeys-lru") as server:
        reason, said = await why_not(server.settings())
    assert reason == "redis.unsuitable"
    assert "noeviction" in said


@pytest.mark.attack("H06")
async def test_a_redis_that_another_authority_vouches_for(redis_server: RedisServer, tmp_path: Path) -> None:
    stranger = MeshPki().identity("verifier", "main").write(tmp_path / "stranger")
    with pytest.raises(Unavailable):
        await checked(redis_server.settings(trust_roots=stranger.trust_roots))
    with pytest.raises(Unavailable):
        await checked(redis_server.settings(certificate=stranger.certificate, private_key=stranger.private_key))


async def test_another_password(redis_server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await checked(redis_server.settings(password_file=private_file(tmp_path / "password", b"another")))


@pytest.mark.parametrize("name", ["password_file", "private_key"])
async def test_a_secret_that_others_can_read(redis_server: RedisServer, name: str) -> None:
    settings = redis_server.settings()
    getattr(settings, name).chmod(0o644)
    reason, said = await why_not(settings)
    assert reason == "file.exposed"
    assert "chmod 600" in said
