"""`cloister bridge` as it is run: killed again and again among a few hundred records, and each is answered once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fakes.redis_server import free_port
from fakes.serving import MODEL
from fakes.zoo_client import ZooClient, payload
from fakes.zoo_mesh import ZooMesh, eventually
from fakes.zoo_redis import ZooRedis, zoo_redis_running

RECORDS = 300
KILLS = 2
COMMAND = Path(sys.executable).with_name("cloister")


@asynccontextmanager
async def bridge(mesh: ZooMesh, server: ZooRedis, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One life of the command; killed at the end of the block, if it has not ended."""
    words = ("bridge", "--redis", server.url, "--stream", f"serving_stream={MODEL}", "--mesh", str(mesh.folder), *more)
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ}
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def answering(mesh: ZooMesh) -> AsyncIterator[None]:
    """The workers, some jobs at a time."""

    async def work() -> None:
        while True:
            await mesh.desk.run(3)
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        try:
            yield
        finally:
            task.cancel()


async def test_a_bridge_that_is_killed_answers_each_record_once(tmp_path: Path) -> None:
    draw = random.Random(11)
    mesh = ZooMesh(tmp_path / "mesh")
    mesh.desk.at_once = False
    with zoo_redis_running(tmp_path / "redis") as server:
        redis: Any = server.client()
        theirs = ZooClient(redis)
        for number in range(RECORDS):
            theirs.enqueue(f"r{number}", payload(x=np.full((1, 2), number)))
        theirs.enqueue("bad", b"malformed")
        async with mesh.served(), answering(mesh):
            for _ in range(KILLS):
                before = redis.xlen("serving_stream")
                left = before - draw.randint(20, 80)
                async with bridge(mesh, server):
                    await eventually(lambda left=left: redis.xlen("serving_stream") <= left)  # type: ignore[misc]
            assert 0 < redis.xlen("serving_stream") < RECORDS, "it was killed in the middle"
            async with bridge(mesh, server, "--until-empty") as last, asyncio.timeout(60):
                out, err = await last.communicate()
        assert last.returncode in (0, 1), err  # 1 where the bad one was left for the last life
        assert b"0 left" in out, err
        check(redis, theirs, mesh)


async def test_it_ends_as_it_is_asked_to_says_what_came_of_all_and_shows_it(tmp_path: Path) -> None:
    mesh = ZooMesh(tmp_path / "mesh")
    port = free_port()
    with zoo_redis_running(tmp_path / "redis") as server:
        redis: Any = server.client()
        theirs = ZooClient(redis)
        for number in range(20):
            theirs.enqueue(f"patient-{number}", payload(x=np.full((1, 2), number)))
        theirs.enqueue("bad", b"malformed")
        async with mesh.served(), bridge(mesh, server, "--metrics", f"127.0.0.1:{port}") as process:
            await eventually(lambda: len(theirs.results()) == 21)
            page = (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/metrics")).text
            process.send_signal(signal.SIGTERM)
            out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err
    said = "serving_stream: 21 in; 20 answered, 1 NaN, 0 settled elsewhere, 0 left"
    assert " ".join(out.decode().split()) == said
    assert 'cloister_bridge_taken_total{stream="serving_stream"} 21.0' in page
    assert 'cloister_bridge_settled_total{end="answered",reason="",stream="serving_stream"} 20.0' in page
    assert 'end="failed",reason="record.malformed",stream="serving_stream"} 1.0' in page
    assert b"record.malformed" in err
    assert b"patient-" not in out + err, "what names a request may name a person"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--redis", "redis://10.0.0.4:6379"), "--plaintext-redis"),
        (("--redis", "rediss://127.0.0.1:6379"), "--redis-ca"),
        (("--stream", "scans"), "MODEL@VERSION"),
    ],
)
async def test_what_it_is_told_wrong_it_says_before_it_does_anything(
    tmp_path: Path, words: tuple[str, str], said: str
) -> None:
    given = {"--redis": "redis://127.0.0.1:1", "--stream": "s=m"} | dict([words])
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "bridge", *[word for pair in given.items() for word in pair], "--mesh", str(tmp_path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 2
    assert said in " ".join(err.decode().split())


def check(redis: Any, theirs: ZooClient, mesh: ZooMesh) -> None:
    """In = out: each uri has its one result, none is left, and the mesh did each once."""
    results = theirs.results()
    assert results.pop("bad") == "NaN"
    assert {uri: value.tolist() for uri, value in results.items()} == {
        f"r{number}": [2.0 * number] * 2 for number in range(RECORDS)
    }
    assert redis.xlen("serving_stream") == 0
    keys = Counter(job.key for call in mesh.desk.submits for job in call.jobs)
    assert len(keys) == RECORDS
