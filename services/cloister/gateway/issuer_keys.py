"""The keys of one issuer as this gateway knows them: the last good set, read again now and then.

A token by a key that is not known is worth one look for a newer set, and no more than one in ten seconds: who makes up
key ids has us ask nobody more often than that (attack E08). All whose tokens wait for that look wait for the same one,
and no more than so many: where an issuer is slow, made-up ids must not fill the gateway with those who wait.
When the issuer cannot be reached, the last good set counts for a day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cloister.errors import CloisterError, Unavailable
from cloister.gateway.access_token import PublicKey
from cloister.gateway.jwks import Jwks, parse_jwks
from cloister.gateway.jwks_source import Fetch
from cloister.kit.log import get_logger

LOOK_EVERY_S: Final = 10.0
LOOK_S: Final = 6.0
KEPT_S: Final = 86_400.0
MAX_WAITING: Final = 32
_log = get_logger()

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[Any]]


class IssuerKeys:
    """Keys by their ids.

    Args:
        name: Of the issuer, for the log.
        fetch: Reads the set.
        every_s: How often it should be read.
        spawn: Runs a task for as long as the service lives.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(
        self, name: str, fetch: Fetch, every_s: float, *, spawn: Spawn, monotonic: Callable[[], float]
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._every_s = every_s
        self._spawn = spawn
        self._monotonic = monotonic
        self._keys: Jwks = {}
        self._raw = b""
        self._read_at_s: float | None = None
        self._asked_at_s: float | None = None
        self._looking: asyncio.Task[Any] | None = None
        self._waiting = 0
        self._said = ""

    def known(self, kid: str) -> PublicKey | None:
        """Return the key of this id, if the set has it and may still be believed."""
        return self._keys.get(kid) if self._in_time() else None

    async def named(self, kid: str) -> PublicKey | None:
        """Return the key of this id, having looked for it in a newer set where that is due.

        Raises:
            Unavailable: There is no set that may be believed (`issuer.unreachable`), or too many wait for one
                (`issuer.busy`).
        """
        key = self.known(kid)
        if key is None:
            if self._asked_at_s is None or self._monotonic() - self._asked_at_s >= LOOK_EVERY_S:
                self.refresh()
            if self._looking is not None:
                await self._wait(self._looking)
            key = self.known(kid)
        if key is None and not self._in_time():
            raise Unavailable("the keys of the token's issuer cannot be had now", reason="issuer.unreachable")
        return key

    async def _wait(self, looking: asyncio.Task[Any]) -> None:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("the keys of the token's issuer are being read; ask again", reason="issuer.busy")
        self._waiting += 1
        try:
            await asyncio.wait({looking}, timeout=LOOK_S)
        finally:
            self._waiting -= 1

    def refresh_if_due(self) -> None:
        """Read the set again if it is time."""
        if self._asked_at_s is None or self._monotonic() - self._asked_at_s >= self._every_s:
            self.refresh()

    def refresh(self) -> None:
        """Begin to read the set, unless that is under way."""
        if self._looking is None:
            self._asked_at_s = self._monotonic()
            self._looking = self._spawn(self._look(), "issuer keys")

    async def _look(self) -> None:
        try:
            raw = await self._fetch()
            if raw != self._raw:
                self._keys = await asyncio.to_thread(parse_jwks, raw)
                self._raw = raw
                _log.info("issuer_keys.read", issuer=self._name, keys=len(self._keys))
            self._read_at_s, self._said = self._monotonic(), ""
        except CloisterError as error:
            if str(error) != self._said:
                _log.warning("issuer_keys.kept", issuer=self._name, error=error)
            self._said = str(error)
        finally:
            self._looking = None

    def _in_time(self) -> bool:
        return self._read_at_s is not None and self._monotonic() - self._read_at_s < KEPT_S
