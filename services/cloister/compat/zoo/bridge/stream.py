"""One stream of theirs in Redis: its requests, their results, and what we keep beside it until both are settled.

    <name>                                   their requests, read by a group of ours
    cluster-serving_<name>:<uri>             their results: `value`, and `error` where there is a reason
    cloister-bridge:{<name>}:<group>:id      names this stream's group in the keys of jobs
    cloister-bridge:{<name>}:<group>:tickets the ticket of each job under way, by entry

A ticket opens the answer that will lie in this same Redis in clear, so it is safe there. An entry is acknowledged in
the step that stores its result, so whatever ends in between, it has one result.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from cloister.compat.zoo.bridge.connecting import CALLS
from cloister.compat.zoo.bridge.entries import Entry
from cloister.compat.zoo.bridge.settings import BridgeSettings
from cloister.errors import Overloaded, Unavailable

ENGINES_GROUP: Final = "serving"
"""The group of Cluster Serving itself."""
_SETTLE: Final = """
local waiting = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if waiting.err or #waiting == 0 then
  redis.call('HDEL', KEYS[3], ARGV[2])
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'value', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], 'error', ARGV[4]) end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""
"""KEYS: stream, result, tickets. ARGV: group, entry, value, error or nothing, life in ms. 0: it was settled before."""
_EXISTS: Final = "group.exists"
GONE: Final = "group.missing"
_REASONS: Final = {"BUSYGROUP": _EXISTS, "NOGROUP": GONE}


class Stream:
    """One stream, for one bridge.

    Args:
        client: Of their Redis.
        name: Of the stream.
        settings: Group, consumer, and how long a result is kept.
    """

    def __init__(self, client: Redis, name: str, settings: BridgeSettings) -> None:
        self.name = name
        self._client: Any = client
        self._settings = settings
        self._group, self._consumer = settings.group, settings.consumer
        beside = f"cloister-bridge:{{{name}}}:{self._group}"
        self._id_key, self._tickets_key, self._unnamed = f"{beside}:id", f"{beside}:tickets", f"{beside}:unnamed"
        self._calls = asyncio.Semaphore(CALLS)
        self._settle = self._client.register_script(_SETTLE)
        self._id = ""

    async def open(self, *, again: bool = False) -> None:
        """See to it that there is our group; where it has been, it goes on.

        Args:
            again: It was there and is not any more, so whatever the stream holds now is new.
        """
        begin = "0" if again else self._settings.since or await self._engines_end()
        try:
            await self._call(self._client.xgroup_create(self.name, self._group, id=begin, mkstream=True))
        except Unavailable as error:
            if error.reason != _EXISTS:
                raise
        await self._call(self._client.set(self._id_key, secrets.token_hex(8), nx=True))
        self._id = (await self._call(self._client.get(self._id_key)) or b"").decode()

    def job_key(self, entry_id: str) -> str:
        """What the mesh knows the job of an entry by: the same in each life of any bridge of this group."""
        return f"cloister-bridge:{self._id}:{entry_id}"

    async def new(self, count: int, block_ms: int) -> list[Entry]:
        """Take entries that nobody has taken yet, waiting for one."""
        read = self._client.xreadgroup(self._group, self._consumer, {self.name: ">"}, count=count, block=block_ms)
        return _entries(await self._call(read, blocks_ms=block_ms))

    async def own(self, after: str, count: int) -> list[Entry]:
        """Entries behind `after` that this bridge, or one before it of its name, took and did not settle."""
        return _entries(
            await self._call(self._client.xreadgroup(self._group, self._consumer, {self.name: after}, count=count))
        )

    async def abandoned(self, cursor: str, count: int) -> tuple[str, list[Entry]]:
        """Take over entries that some bridge took and has not thought of for `hold_s`; and where to go on."""
        found = await self._call(
            self._client.xautoclaim(
                self.name, self._group, self._consumer, int(self._settings.hold_s * 1000), cursor, count
            )
        )
        entries = [Entry.of(entry_id, fields) for entry_id, fields in found[1] if entry_id is not None]
        deleted = found[2] if len(found) > 2 else ()  # since Redis 7; they are not ours to settle any more
        return found[0].decode(), entries + [Entry.of(entry_id, None) for entry_id in deleted]

    async def renew(self, ids: Sequence[str]) -> None:
        """Say that these are thought of."""
        if ids:
            claim = self._client.xclaim(self.name, self._group, self._consumer, 0, list(ids), justid=True)
            await self._call(claim)

    async def read(self, entry_id: str) -> Entry:
        """An entry once more."""
        found = await self._call(self._client.xrange(self.name, entry_id, entry_id))
        return Entry.of(*found[0]) if found else Entry(entry_id, is_there=False)

    async def tickets(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The tickets of those that have been submitted, or were about to be."""
        found = await self._call(self._client.hmget(self._tickets_key, list(ids))) if ids else []
        return {entry_id: ticket for entry_id, ticket in zip(ids, found, strict=True) if ticket is not None}

    async def keep_tickets(self, tickets: Mapping[str, bytes]) -> None:
        """Keep tickets before their jobs are submitted."""
        if tickets:
            await self._call(self._client.hset(self._tickets_key, mapping=dict(tickets)))

    async def drop_tickets(self, ids: Iterable[str]) -> None:
        """Forget tickets of jobs that will not be answered."""
        if given := list(ids):
            await self._call(self._client.hdel(self._tickets_key, *given))

    async def settle(self, entry: Entry, value: bytes, error: str = "") -> bool:
        """Store a result, and with it acknowledge and delete its entry; False where that has been done already.

        A request without a uri has its reason under a key of ours, since no client can ask for it.
        """
        uri = entry.uri
        named = f"cluster-serving_{self.name}:".encode() + uri if uri else f"{self._unnamed}:{entry.entry_id}".encode()
        life_ms = self._settings.result_ttl_s * 1000
        settled = await self._call(
            self._settle(
                keys=[self.name, named, self._tickets_key], args=[self._group, entry.entry_id, value, error, life_ms]
            )
        )
        return bool(settled)

    async def _engines_end(self) -> str:
        """Where Cluster Serving itself stopped reading; the beginning, where it has never read.

        Their clients make its group too, at the end of the stream, so a group without a consumer says nothing.
        """
        if not await self._call(self._client.exists(self.name)):
            return "0"
        groups = await self._call(self._client.xinfo_groups(self.name))
        for group in groups:
            if group["name"] == ENGINES_GROUP.encode() and group["consumers"]:
                return str(group["last-delivered-id"].decode())
        return "0"

    async def _call(self, call: Awaitable[Any], *, blocks_ms: int = 0) -> Any:
        try:
            async with asyncio.timeout(self._settings.redis.timeout_s + blocks_ms / 1000):
                if blocks_ms:
                    return await call
                async with self._calls:
                    return await call
        except OutOfMemoryError as error:
            raise Overloaded("Cluster Serving's Redis is full", reason="redis.full") from error
        except ResponseError as error:
            reason = _REASONS.get(str(error).partition(" ")[0], "redis.refused")
            raise Unavailable(f"Cluster Serving's Redis refuses: {error}", reason=reason) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("Cluster Serving's Redis does not answer", reason="redis.unreachable") from error


def _entries(read: Any) -> list[Entry]:
    return [Entry.of(entry_id, fields) for _, entries in read or () for entry_id, fields in entries]
