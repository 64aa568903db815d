"""The jobs of one cluster in one Redis: how scripts are run on them, and what is said of what is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final

from redis.exceptions import ResponseError

from cloister.errors import InvalidRequest, Unavailable
from cloister.gateway.jobs.keeping import scripts
from cloister.gateway.jobs.keeping.records import Records
from cloister.gateway.routing import NAME
from cloister.kit.log import get_logger
from cloister.kit.redis import Client, Word, command, evaluate

PRIORITIES: Final = ("high", "normal", "low")
MAX_BATCH: Final = 128
MAX_BATCH_BYTES: Final = 8 << 20
OFF_LOOP_BYTES: Final = 1 << 20
"""What has more bytes is hashed on another thread."""
MAX_WAIT_MS: Final = 1000
_POLL_S: Final = 0.05
_BYTES_PER_S: Final = 8 << 20
_LENGTH: Final = Struct(">I")
_SHOWN: Final = 200
_DROPPED: Final = ("job.missing", "job.doubled", "job.junk")

_log = get_logger()


class Shelf:
    """One cluster's jobs in one Redis. Called on the event loop only.

    Args:
        cluster: Trust domain; what all keys begin with.
        timeout_s: Deadline of each exchange.
        connections: Of the client. Half are for calls that wait until something is there, one each, and whoever finds
            none looks now and then instead; calls that do not wait share the others in turn.
        now_ms: Unix time.
        on_dropped: Told the reason whenever something in Redis was not as it must be.
    """

    def __init__(
        self,
        client: Client,
        records: Records,
        *,
        cluster: str,
        timeout_s: float,
        connections: int,
        now_ms: Callable[[], int],
        on_dropped: Callable[[str], None],
    ) -> None:
        self.records = records
        self.now_ms = now_ms
        self.registry = f"{cluster}:jobs:models"
        self.key_mark = f"{cluster}:jobs:key"
        self._client = client
        self._prefix = f"{cluster}:jobs:"
        self._timeout_s = timeout_s
        self._waits = connections // 2
        self._calls = asyncio.Semaphore(connections - self._waits)
        self._on_dropped = on_dropped

    def key(self, model_name: str) -> str:
        """What all keys of a model begin with, and its hash tag; raises InvalidRequest where that is no name."""
        if not NAME.fullmatch(model_name):
            raise InvalidRequest("that is no name of a model", reason="model.invalid")
        return f"{self._prefix}{{{model_name}}}"

    async def run(self, model_name: str, script: str, *words: Word, size_bytes: int = 0) -> Any:
        """Run a script on the keys of a model.

        Args:
            model_name: Whose keys.
            script: Lua.
            words: Its arguments.
            size_bytes: How long the answer is, if that is long.

        Raises:
            Unavailable: There was no answer in time.
            Overloaded: Redis is full.
        """
        return await self.run_on(self.key(model_name), script, *words, size_bytes=size_bytes)

    async def run_on(self, key: str, script: str, *words: Word, size_bytes: int = 0) -> Any:
        """Run a script on one key, and those in its slot that are made from it."""
        size_bytes += sum(len(word) for word in words if isinstance(word, bytes))
        timeout_s = self._timeout_s + size_bytes / _BYTES_PER_S
        try:
            async with self._calls:
                return await evaluate(self._client, timeout_s, script, [key], *words)
        except Unavailable as error:
            if isinstance(error.__cause__, ResponseError):
                _log.error("jobs.script_failed", key=key, answer=str(error.__cause__)[:_SHOWN])
            raise

    async def value(self, model_name: str, kind: str, job_id: str, size_bytes: int) -> bytes:
        """A request or a response that goes by itself; empty where it is not there."""
        value = await self.run(model_name, scripts.VALUE, kind, job_id, size_bytes=size_bytes)
        if not isinstance(value, bytes):
            raise malformed()
        return value

    async def answers(self, model_name: str, job_ids: Sequence[str], size_bytes: int) -> dict[str, bytes]:
        """Responses that are there, of so many bytes in all.

        No script reads them: Lua hashes every byte that passes through it, which costs more than to send it.
        """
        if not job_ids:
            return {}
        key = self.key(model_name)
        keys = [f"{key}:answer:{job_id}" for job_id in job_ids]
        async with self._calls:
            timeout_s = self._timeout_s + size_bytes / _BYTES_PER_S
            values = parts(await command(self._client, timeout_s, "MGET", *keys, key=keys[0]), len(keys))
        pairs = zip(job_ids, values, strict=True)
        return {job_id: value for job_id, value in pairs if isinstance(value, bytes)}

    async def delete(self, key: str) -> None:
        """Take a key away."""
        async with self._calls:
            await command(self._client, self._timeout_s, "DEL", key)

    async def wait(self, model_name: str, stream: str, after: str, block_ms: int) -> None:
        """Wait for something in a stream of a model after this id, for so long; raises Unavailable."""
        block_ms = min(block_ms, MAX_WAIT_MS)
        if self._waits <= 0:
            await asyncio.sleep(min(block_ms / 1000, _POLL_S))
            return
        key = f"{self.key(model_name)}:{stream}"
        words: list[Word] = ["XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", key, after]
        self._waits -= 1
        try:
            await command(self._client, block_ms / 1000 + self._timeout_s, *words, key=key)
        finally:
            self._waits += 1

    def drop(self, reason: str, model_name: str, count: int = 1, **about: str) -> None:
        """Note that something is not as it must be: somebody writes there who must not, or Redis lost something."""
        for _ in range(count):
            self._on_dropped(reason)
        _log.error("job.dropped", reason=reason, model=model_name, count=count, **about)

    def told(self, model_name: str, counts: object) -> None:
        """Note what a script has dropped by itself."""
        words = texts(counts)
        if len(words) != len(_DROPPED) or not all(word.isdigit() for word in words):
            raise malformed()
        for reason, count in zip(_DROPPED, words, strict=True):
            if int(count):
                self.drop(reason, model_name, int(count))


def parts(answer: object, count: int) -> list[Any]:
    """So many parts of a script's answer; raises Unavailable where there are others."""
    if not isinstance(answer, list) or len(answer) != count:
        raise malformed()
    return answer


def rows(packed: object, width: int) -> list[tuple[bytes, ...]]:
    """What a script has packed, so many fields to a row; raises Unavailable where it is not that."""
    if not isinstance(packed, bytes):
        raise malformed()
    fields: list[bytes] = []
    at, end = 0, len(packed)
    while at + _LENGTH.size <= end:
        (size,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size + size
        fields.append(packed[at - size : at])
    if at != end or len(fields) % width:
        raise malformed()
    return list(zip(*[iter(fields)] * width, strict=True))


def texts(words: object) -> list[str]:
    """Words that a script has put together; raises Unavailable where it is not that."""
    if not isinstance(words, bytes) or not words.isascii():
        raise malformed()
    return words.decode("ascii").split()


def malformed() -> Unavailable:
    """What Redis answers is not what the script would."""
    return Unavailable("what Redis answers is no answer", reason="state.malformed")
