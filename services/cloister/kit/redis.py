"""Redis, as far as it is trusted: to be there, over mutual TLS, under a user of our own (attacks H04, H06).

Whatever is read from it is bytes with a bounded length; what the bytes say is for those who sealed them to check.
Every call has a deadline, none is repeated by itself, and every failure is `Unavailable`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from cloister.errors import NotReady, Unavailable
from cloister.rpc.files import read_private, read_public

SHARED_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The `[redis]` table of a service's settings.

    Attributes:
        url: rediss://host:port, and nothing more.
        trust_roots: PEM, what the server's certificate must lead back to.
        certificate: Our client certificate in PEM; `private_key` is its key, mode 0600.
        user: A user in Redis's access list, not `default`.
        password_file: Its password, mode 0600.
        shared_key: 32 random bytes, mode 0600, the same for every replica and unknown to Redis: what is kept there is
            sealed under it.
        timeout_s: Deadline of each call.
    """

    url: str
    trust_roots: Path
    certificate: Path
    private_key: Path
    user: str
    password_file: Path
    shared_key: Path
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError."""
        parts = urlsplit(self.url)
        if parts.scheme != "rediss":
            raise ValueError("redis.url begins with rediss://; Redis without TLS is not used")
        if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError("redis.url is rediss://host:port; user and password have their own keys")
        if not parts.hostname or parts.port is None:
            raise ValueError("redis.url names host and port")
        if self.user in ("", "default"):
            raise ValueError("redis.user is a user of our own in Redis's access list, not the default one")
        if not 0.05 <= self.timeout_s <= 60:
            raise ValueError("redis.timeout_s must be 0.05 to 60")

    @property
    def host(self) -> str:
        """Of the server."""
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        """Of the server, for TLS."""
        return int(urlsplit(self.url).port or 0)

    def read_shared_key(self) -> bytes:
        """The key that replicas share; raises NotReady when the file is not one, or open to others."""
        key = read_private(self.shared_key)
        if len(key) != SHARED_KEY_BYTES:
            raise NotReady(
                f"{self.shared_key} must hold {SHARED_KEY_BYTES} random bytes: head -c 32 /dev/urandom",
                reason="shared_key.unusable",
            )
        return key


@asynccontextmanager
async def connected(settings: RedisSettings) -> AsyncIterator[Redis]:
    """A client, as our own user; connections open with the first call.

    Raises:
        NotReady: A file is missing, or open to others.
    """
    password = read_private(settings.password_file).strip().decode("utf-8", "replace")
    client = opened(settings, user=settings.user, password=password)
    try:
        yield client
    finally:
        await client.aclose()


def opened(settings: RedisSettings, *, user: str | None, password: str | None, certified: bool = True) -> Redis:
    """A client over TLS 1.3, as somebody; for `connected`, and for checks that come as strangers."""
    read_private(settings.private_key)
    for path in (settings.certificate, settings.trust_roots):
        read_public(path)
    return Redis(
        host=settings.host,
        port=settings.port,
        username=user,
        password=password,
        ssl=True,
        ssl_ca_certs=str(settings.trust_roots),
        ssl_certfile=str(settings.certificate) if certified else None,
        ssl_keyfile=str(settings.private_key) if certified else None,
        ssl_min_version=ssl.TLSVersion.TLSv1_3,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=16,
        protocol=2,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Redis's errors as ours."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("the shared state cannot be reached", reason="state.unavailable") from error


Word = str | bytes | int
Client = Redis


async def command(client: Client, timeout_s: float, *words: Word, key: str = "") -> Any:
    """One command and its reply, in time; raises Unavailable."""
    with translated():
        async with asyncio.timeout(timeout_s):
            answer: Any = client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis has no types here
            return await answer


async def evaluate(client: Client, timeout_s: float, script: str, keys: Sequence[str | bytes], *args: Word) -> Any:
    """Run a script by its digest, or whole where Redis does not know it; raises Unavailable."""
    sha1 = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    with translated():
        async with asyncio.timeout(timeout_s):
            try:
                return await client.execute_command("EVALSHA", sha1, len(keys), *keys, *args)  # type: ignore[no-untyped-call]
            except NoScriptError:
                return await client.execute_command("EVAL", script, len(keys), *keys, *args)  # type: ignore[no-untyped-call]
