"""The Redis that `cloister init` configures and `cloister up` runs: closed, and there again with all that it keeps."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.cli import keeper as keeping
from cloister.cli import programs, redis_files
from cloister.cli.founding import Plan, found
from cloister.cli.keeper import Keeper
from cloister.cli.mesh_folder import Mesh
from cloister.errors import Unavailable
from cloister.gateway.settings import Settings
from cloister.kit.config import load
from cloister.kit.redis import Client, RedisSettings, command, connected, evaluate
from cloister.kit.redis_checks import check_jobs
from fakes.redis_server import sha256

TIMEOUT_S = 5.0
SET_TWO = "redis.call('SET', KEYS[1] .. ARGV[1], 1) redis.call('SET', KEYS[1] .. ARGV[2], 1)"


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    if shutil.which(programs.REDIS_SERVER) is None:
        pytest.skip("redis-server is not installed: run `sudo sh deploy/redis.sh`")
    monkeypatch.setattr(keeping, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(keeping, "LOOK_S", 0.05)
    port = 30_000 + 16 * secrets.randbelow(600)
    plan = Plan(
        folder=tmp_path / "mesh",
        cluster="test.cloister.internal",
        models=["m"],
        hosts=(),
        simulated=False,
        first_port=port,
    )
    return found(plan, datetime.now(UTC))


@asynccontextmanager
async def kept_up(mesh: Mesh) -> AsyncIterator[Keeper]:
    """The program of `cloister up`, started again whenever it ends."""
    ((redis,), *_) = programs.stages(mesh, programs.Size(workers=0), simulated=False)
    keeper = Keeper(redis, mesh.folder / "redis.log", lambda _: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run(lambda: None))
        try:
            yield keeper
        finally:
            await keeper.stop()


def gateways(mesh: Mesh) -> RedisSettings:
    settings = load(Settings, mesh.settings("gateway"), {}, prefix="CLOISTER_").redis
    assert settings is not None
    return settings


async def again(ask: Callable[[], Any]) -> Any:
    """What comes once the server is there (anew)."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.01)


async def there(client: Client, key: str, *names: str) -> list[bool]:
    async def ask() -> list[bool]:
        return [await command(client, TIMEOUT_S, "STRLEN", f"{key}{name}", key=key) > 0 for name in names]

    return list(await again(ask))


@pytest.mark.attack("H06")
async def test_it_is_closed_to_all_but_the_users_of_the_mesh_and_the_operator_only_looks(mesh: Mesh) -> None:
    operator = redis_files.as_operator(mesh)
    assert operator is not None
    async with kept_up(mesh), connected(gateways(mesh)) as client, connected(operator) as looking:
        await again(lambda: command(client, TIMEOUT_S, "PING"))
        await check_jobs(client, gateways(mesh))
        assert (await command(looking, TIMEOUT_S, "INFO", "memory"))["maxmemory"] == 512 << 20
        for words in (("CONFIG", "GET", "dir"), ("GET", "key"), ("SHUTDOWN",), ("KEYS", "*"), ("FLUSHALL",)):
            with pytest.raises(Unavailable):
                await command(looking, TIMEOUT_S, *words)


@pytest.mark.attack("H03")
async def test_a_kill_in_the_midst_of_what_a_script_wrote_takes_nothing_else_with_it(mesh: Mesh) -> None:
    """Redis by itself would leave the torn transaction open, and lose with the next start what came after it."""
    key = f"{mesh.cluster}:jobs:{{m}}:"
    async with kept_up(mesh) as keeper, connected(gateways(mesh)) as client:
        await again(lambda: evaluate(client, TIMEOUT_S, SET_TWO, [key], "a", "b"))
        await evaluate(client, TIMEOUT_S, SET_TWO, [key], "torn", "torn-too")
        kill(keeper, lambda: tear(mesh))
        assert await there(client, key, "a", "b", "torn", "torn-too") == [True, True, False, False]
        await evaluate(client, TIMEOUT_S, "redis.call('SET', KEYS[1] .. 'after', 1)", [key])
        kill(keeper)
        assert await there(client, key, "a", "b", "torn", "after") == [True, True, False, True]


async def test_new_passwords_are_taken_up_without_anybody_being_started_by_hand(mesh: Mesh) -> None:
    key = f"{mesh.cluster}:jobs:{{m}}:"
    async with kept_up(mesh) as keeper, connected(gateways(mesh)) as client:
        await again(lambda: evaluate(client, TIMEOUT_S, SET_TWO, [key], "a", "b"))
        before, old = keeper.pid, (mesh.redis_folder / "gateway.password").read_text()
        redis_files.rotate_passwords(mesh)
        async with asyncio.timeout(20):
            while keeper.pid in (before, None):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.01)
        assert await there(client, key, "a") == [True]
    assert sha256(old) not in (mesh.redis_folder / redis_files.USERS).read_text()


def kill(keeper: Keeper, then: Callable[[], None] = lambda: None) -> None:
    """SIGKILL, and something done before it is started again."""
    assert keeper.pid is not None
    os.kill(keeper.pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # the loop was there first
        os.waitid(os.P_PID, keeper.pid, os.WEXITED | os.WNOWAIT)
    then()


def tear(mesh: Mesh) -> None:
    """Cut the file where a write may have ended that was never answered."""
    (file,) = (mesh.redis_folder / redis_files.DATA).glob("*.incr.aof")
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex(b"EXEC") - 6])
