"""What lies in Redis once a mesh is down, looked at by somebody with every power: its file in another redis-server."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cloister.gateway.jobs.keeping.kept_scripts import RECORD_BYTES

START_S = 30.0


def left_lying(folder: Path, name: str, jobs: int) -> Iterator[tuple[str, str]]:
    """Rules that what lies there breaks, and where.

    Args:
        folder: Redis's, of a mesh that is down.
        name: What all keys of the model begin with.
        jobs: How many records there should be.
    """
    with _opened(folder) as redis:
        if count := redis.xlen(f"{name}:taken"):
            yield "nobody holds a job when all have ended", str(count)
        for key in (f"{name}:later", *_keys(redis, f"{name}:wait:*")):
            if redis.exists(key):
                yield "no job waits when all have ended", key
        for key in (f"{name}:live", f"{name}:use", *_keys(redis, f"{name}:row:*")):
            if redis.exists(key):
                yield "nothing is counted of jobs that have ended", key
        records = list(_keys(redis, f"{name}:job:*"))
        if len(records) != jobs:
            yield "there is one record of each job", f"{len(records)} of {jobs}"
        for record in records:
            if (kept := set(redis.hkeys(record))) != {b"h", b"t", b"k"}:
                yield "of a job that has ended only that is kept", f"{record}: {kept}"
        lies = sum(redis.strlen(key) for key in _keys(redis, f"{name}:answer:*")) + RECORD_BYTES * len(records)
        if lies != (counted := sum(int(redis.hget(key, "sum") or 0) for key in _keys(redis, f"{name}:kept:*"))):
            yield "what lies there of ended jobs is counted", f"{counted} of {lies} bytes"
        told = Counter(
            ids[at : at + 32]
            for _, page in redis.xrange(f"{name}:feed")
            for ids in page.values()
            for at in range(0, len(ids), 32)
        )
        for job_id, times in told.items():
            if times > 1:
                yield "each end is told once", f"{job_id.decode()}: {times} times"


def _keys(redis: Redis, pattern: str) -> Iterator[str]:
    literal = pattern.replace("{", "\\{").replace("[", "\\[")
    return (key.decode() for key in redis.scan_iter(literal, count=1000))


@contextmanager
def _opened(folder: Path) -> Iterator[Redis]:
    """A server of nobody else's with a copy of what lies there."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(folder / "appendonlydir", Path(place) / "appendonlydir")
        words = ("--port", "0", "--unixsocket", f"{place}/s", "--dir", place, "--appendonly", "yes", "--save", "")
        with subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL) as process:
            try:
                with Redis(unix_socket_path=f"{place}/s", protocol=2) as redis:
                    _until_loaded(redis)
                    yield redis
            finally:
                process.kill()


def _until_loaded(redis: Redis) -> None:
    until_s = time.monotonic() + START_S
    while True:
        try:
            redis.ping()
        except (RedisError, OSError):
            assert time.monotonic() < until_s, "redis-server does not read what it kept"
            time.sleep(0.05)
        else:
            return
