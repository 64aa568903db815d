"""What a bridge is told: which Redis, which streams for which models, and how long things are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from cloister.errors import InvalidRequest
from cloister.kit.redis_settings import Address

GROUP: Final = "cloister-bridge"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENTRY_ID: Final = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")


@dataclass(frozen=True, slots=True)
class Target:
    """The model that answers what comes by a stream; `version` is a number, a label, or empty for the default."""

    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read MODEL or MODEL@VERSION."""
        model, _, version = text.partition("@")
        if not model or text.endswith("@"):
            raise InvalidRequest(f"'{text[:64]}' is no MODEL or MODEL@VERSION", reason="stream.malformed")
        return cls(model, version)


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirRedis:
    """The Redis that their clients know.

    Attributes:
        url: rediss://host:port; redis://host:port or unix:///path where nobody listens in.
        trust_roots: PEM, what its certificate must lead back to; for rediss.
        certificate: Our client certificate in PEM, where it wants one; `private_key` is its key, mode 0600.
        user: Where it wants a password.
        password_file: That password, mode 0600.
        plaintext: Whether what their clients sent may go over a network without TLS.
        timeout_s: Deadline of each call.
    """

    url: str
    trust_roots: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    user: str = "default"
    password_file: Path | None = None
    plaintext: bool = False
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises InvalidRequest."""
        parts = urlsplit(self.url)
        if "@" in self.url or parts.query or parts.fragment:
            raise _wrong("user and password have their own options; the URL is rediss://host:port")
        if self.is_unix:
            if not parts.path or parts.netloc:
                raise _wrong("a socket is named by its whole path: unix:///run/redis.sock")
        elif parts.scheme not in ("rediss", "redis") or not _port(self.url) or parts.path not in ("", "/"):
            raise _wrong("it is reached by rediss://host:port, or unix:///path")
        if self.is_tls and self.trust_roots is None:
            raise _wrong("rediss needs the certificates that the server's must lead back to (--redis-ca)")
        if not self.is_tls and (self.trust_roots or self.certificate or self.private_key):
            raise _wrong("certificates are for rediss://")
        if (self.certificate is None) != (self.private_key is None):
            raise _wrong("a client certificate and its key go together")
        if parts.scheme == "redis" and parts.hostname not in _LOOPBACK and not self.plaintext:
            raise InvalidRequest(
                "without TLS, whoever is between reads and changes every request; use rediss://, or say "
                "--plaintext-redis where you know that nobody is",
                reason="redis.plaintext",
            )

    @property
    def is_unix(self) -> bool:
        """Whether it is a socket of this machine."""
        return self.url.startswith("unix:")

    @property
    def is_tls(self) -> bool:
        """Whether it is reached over TLS."""
        return self.url.startswith("rediss:")

    @property
    def path(self) -> str:
        """Of the socket."""
        return urlsplit(self.url).path

    @property
    def address(self) -> Address:
        """Where it listens, if that is no socket."""
        return Address(urlsplit(self.url).hostname or "", _port(self.url))


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    """What a bridge does.

    Attributes:
        redis: Where their clients put requests.
        streams: Model by name of stream.
        group: Our consumer group; all bridges of one name share the work.
        consumer: This bridge within the group; what it held when it ended it takes up first when it starts again.
        since: Where the group begins when it is made: an id of an entry. Empty: where their engine stopped reading,
            or with the first entry where that has never read.
        result_ttl_s: How long a result is kept for who fetches it.
        life_s: How long a request is tried before it is answered with NaN.
        hold_s: After so long without a sign of life, others take over what a bridge holds.
        grace_s: How long a bridge that is to end waits for answers under way.
        max_records: Requests under way at a time, of one stream.
        batch: Requests that are taken and submitted together, at most.
        until_empty: Whether to end once there is nothing more to answer.
    """

    redis: TheirRedis
    streams: Mapping[str, Target]
    group: str = GROUP
    consumer: str = "bridge"
    since: str = ""
    result_ttl_s: int = 3600
    life_s: float = 86_400.0
    hold_s: float = 60.0
    grace_s: float = 10.0
    max_records: int = 1024
    batch: int = 64
    until_empty: bool = False

    def __post_init__(self) -> None:
        """Check them; raises InvalidRequest."""
        if not self.streams:
            raise InvalidRequest("name at least one stream: --stream serving_stream=MODEL", reason="stream.missing")
        for name in (self.group, self.consumer):
            if not _NAME.fullmatch(name):
                raise InvalidRequest(f"'{name[:64]}' is no name of letters, digits, '.', '_' and '-'")
        for name in self.streams:
            if not name or len(name) > 200 or not name.isprintable():
                raise InvalidRequest("a stream has a name of 1 to 200 characters", reason="stream.malformed")
        if self.since and not _ENTRY_ID.fullmatch(self.since):
            raise InvalidRequest("--since is the id of an entry, such as 0 or 1700000000000-0")
        if self.result_ttl_s < 1 or self.life_s <= 0 or self.hold_s < 1:
            raise InvalidRequest("results are kept for a second or longer, and so are requests")
        if not 1 <= self.batch <= self.max_records:
            raise InvalidRequest("a batch is of 1 to as many records as may be under way")


def parse_streams(given: Sequence[str]) -> dict[str, Target]:
    """Read NAME=MODEL[@VERSION]s; raises InvalidRequest, also where a name comes twice."""
    found: dict[str, Target] = {}
    for each in given:
        name, _, target = each.partition("=")
        if name in found:
            raise InvalidRequest(f"the stream '{name[:64]}' is named twice", reason="stream.malformed")
        found[name] = Target.parse(target)
    return found


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return 0


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(f"the Redis of Cluster Serving's clients: {what}", reason="redis.url_invalid")
