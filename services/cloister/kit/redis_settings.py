"""The `[redis]` table of a service's settings; what it says can be read where redis-py is not installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from cloister.errors import NotReady
from cloister.rpc.files import read_private

SHARED_KEY_BYTES: Final = 32
_SCHEME: Final = "rediss://"
_MAX_ADDRESSES: Final = 32


class Address(NamedTuple):
    """Of one Redis or Sentinel."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The `[redis]` table of a service's settings.

    Attributes:
        url: rediss://host:port, and nothing more; of Sentinels, or of some nodes of a Cluster, rediss://a:1,b:2.
        trust_roots: PEM, what every server's certificate must lead back to.
        certificate: Our client certificate in PEM; `private_key` is its key, mode 0600.
        user: A user in Redis's access list, not `default`.
        password_file: Its password, mode 0600; read again for each connection.
        shared_key: 32 random bytes, mode 0600, the same for all of us and unknown to Redis: what is kept there is
            sealed or authenticated under it.
        sentinel: Name of the master that the Sentinels of `url` watch; empty where `url` is Redis itself.
        sentinel_user: Our user in the Sentinels' own access list, not `default`.
        sentinel_password_file: Its password, mode 0600.
        cluster: Whether `url` names nodes of a Redis Cluster.
        timeout_s: Deadline of each call.
    """

    url: str
    trust_roots: Path
    certificate: Path
    private_key: Path
    user: str
    password_file: Path
    shared_key: Path
    sentinel: str = ""
    sentinel_user: str = ""
    sentinel_password_file: Path | None = None
    cluster: bool = False
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError."""
        addresses = _addresses(self.url)
        if self.user in ("", "default"):
            raise ValueError("redis.user is a user of our own in Redis's access list, not the default one")
        if self.sentinel and self.cluster:
            raise ValueError("redis.sentinel and redis.cluster exclude each other")
        if len(addresses) > 1 and not (self.sentinel or self.cluster):
            raise ValueError("redis.url names one server, unless redis.sentinel or redis.cluster says what they are")
        with_user = self.sentinel_user not in ("", "default") and self.sentinel_password_file is not None
        if self.sentinel and not with_user:
            raise ValueError(
                "redis.sentinel needs redis.sentinel_user, not the default one, and sentinel_password_file"
            )
        if not self.sentinel and (self.sentinel_user or self.sentinel_password_file):
            raise ValueError("redis.sentinel_user and sentinel_password_file are for redis.sentinel")
        if not 0.05 <= self.timeout_s <= 60:
            raise ValueError("redis.timeout_s must be 0.05 to 60")

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What the URL names."""
        return _addresses(self.url)

    def read_shared_key(self) -> bytes:
        """The key that we share; raises NotReady when the file is not one, or open to others."""
        key = read_private(self.shared_key)
        if len(key) != SHARED_KEY_BYTES:
            raise NotReady(
                f"{self.shared_key} must hold {SHARED_KEY_BYTES} random bytes: head -c 32 /dev/urandom",
                reason="shared_key.unusable",
            )
        return key


def _addresses(url: str) -> tuple[Address, ...]:
    if not url.startswith(_SCHEME):
        raise ValueError("redis.url begins with rediss://; Redis without TLS is not used")
    if set(url) & set("@?#") or "/" in url.removeprefix(_SCHEME).removesuffix("/"):
        raise ValueError("redis.url is rediss://host:port; user and password have their own keys")
    parts = [urlsplit(f"//{each}") for each in url.removeprefix(_SCHEME).removesuffix("/").split(",")]
    if len(parts) > _MAX_ADDRESSES or not all(part.hostname and part.port for part in parts):
        raise ValueError("redis.url names host and port")
    return tuple(Address(str(part.hostname), int(part.port or 0)) for part in parts)
