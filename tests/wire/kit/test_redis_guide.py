"""docs/guides/redis.md: its lines start a Redis that jobs may wait in, and name the commands that are called."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cloister.gateway.jobs import access as jobs
from cloister.kit.redis import connected
from cloister.kit.redis_checks import check_jobs
from cloister.kit.redis_settings import RedisSettings
from cloister.verifier.replicas import access as replicas
from fakes.pki import CLUSTER, MeshPki
from fakes.redis_guide import block
from fakes.redis_server import PASSWORD, administrator, redis_running
from fakes.running_services import private_file

REPLICAS = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "verifier-replicas.md").read_text()


def written(folder: Path, pki: MeshPki, **more: str | Path) -> RedisSettings:
    """The settings of the page, with their files beside them."""
    client = pki.identity("gateway", "main").write(folder / "gateway")
    files = {"redis-ca.pem": client.trust_roots, "redis-client.pem": client.certificate}
    for name, source in files.items():
        (folder / name).write_bytes(source.read_bytes())
    private_file(folder / "redis-client.key", client.private_key.read_bytes())
    private_file(folder / "redis.password", PASSWORD.encode())
    table = tomllib.loads(block("toml"))["redis"] | more
    paths = ("trust_roots", "certificate", "private_key", "password_file", "shared_key")
    return RedisSettings(**{name: folder / value if name in paths else value for name, value in table.items()})


@pytest.mark.attack("H06")
async def test_a_redis_with_the_lines_of_the_page_will_do(tmp_path: Path, pki: MeshPki) -> None:
    lines = [line for line in block("redis").splitlines() if line.split()[0] not in FILES]
    users = f"{block('acl')}{administrator()}\n"
    with redis_running(tmp_path / "redis", pki, lines="\n".join(lines), users=users) as server:
        settings = written(tmp_path, pki, url=f"rediss://127.0.0.1:{server.port}")
        async with connected(settings) as client:
            await check_jobs(client, settings)


FILES = ("tls-port", "tls-cert-file", "tls-key-file", "tls-ca-cert-file", "aclfile")


def test_the_pages_know_what_each_user_may_do() -> None:
    assert jobs.rules(CLUSTER) in block("acl")
    assert replicas.rules("mesh.example.internal") in REPLICAS
