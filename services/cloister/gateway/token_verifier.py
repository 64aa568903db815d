"""Which of the tenants' rules takes a token: its issuer known, its signature verified, its terms kept.

Signatures are verified in threads and remembered; whatever can change since is asked again each time: whether the
issuer still has that key, what the settings say of it, and the time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import InvalidRequest
from cloister.gateway.access_token import AccessToken, PublicKey, check_terms, read, refused, verify_signature
from cloister.gateway.directory import KnownRule
from cloister.gateway.issuer_keys import IssuerKeys, Spawn
from cloister.gateway.jwks import parse_jwks
from cloister.gateway.jwks_source import Fetch, source_of
from cloister.gateway.tenant_file import IssuerTable
from cloister.rpc.files import read_guarded

REMEMBERED: Final = 512
AT_A_TIME: Final = 2
"""Signatures that are verified: anybody may send tokens, and the threads are everybody's."""
TICK_S: Final = 0.5

Sources = Mapping[str, tuple[IssuerTable, Fetch, float]]
"""By the issuer's name in the tenants file; made by `sources` in a thread."""


def sources(issuers: Mapping[str, IssuerTable], folder: Path) -> Sources:
    """Find where each issuer's keys are read from.

    Raises:
        NotReady: As `source_of`, or a file of keys cannot be read.
        InvalidRequest: A file of keys is none (`jwks.invalid`).
    """
    for name, table in issuers.items():
        if table.jwks_file is not None:
            try:
                parse_jwks(read_guarded(folder / table.jwks_file))
            except InvalidRequest as error:
                raise InvalidRequest(f"issuers.{name}.jwks_file: {error}", reason=error.reason) from error
    return {name: (table, *source_of(table, folder)) for name, table in issuers.items()}


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: str
    table: IssuerTable
    keys: IssuerKeys


class TokenVerifier:
    """Verifies the tokens of the issuers in the tenants file.

    Args:
        spawn: Runs a task for as long as the service lives.
        monotonic: A clock that never goes back, in seconds.
        now: Unix time in seconds.
    """

    def __init__(self, *, spawn: Spawn, monotonic: Callable[[], float], now: Callable[[], float]) -> None:
        self._spawn = spawn
        self._monotonic = monotonic
        self._now = now
        self._issuers: dict[str, _Issuer] = {}  # by `iss`
        self._verified: OrderedDict[bytes, tuple[AccessToken, PublicKey]] = OrderedDict()
        self._verifying = asyncio.Semaphore(AT_A_TIME)

    def use(self, found: Sources) -> None:
        """Go by these issuers from now on; of one that is as it was, the keys stay."""
        before = {each.name: each for each in self._issuers.values()}
        issuers = {}
        for name, (table, fetch, every_s) in found.items():
            known = before.get(name)
            if known is None or known.table != table:
                keys = IssuerKeys(name, fetch, every_s, spawn=self._spawn, monotonic=self._monotonic)
                known = _Issuer(name, table, keys)
            issuers[table.issuer] = known
        self._issuers = issuers

    async def refreshing(self) -> None:
        """Keep the keys of all issuers up to date for as long as the service runs."""
        while True:
            for each in list(self._issuers.values()):
                each.keys.refresh_if_due()
            await asyncio.sleep(TICK_S)

    async def verified(self, text: str) -> tuple[str, AccessToken]:
        """Return the name of a token's issuer in the tenants file, and what the token says.

        Raises:
            Unauthenticated: It is not accepted; `reason` is `token.malformed`, `.issuer`, `.algorithm`, `.key_unknown`,
                `.signature`, `.audience`, `.not_yet`, `.expired` or `.too_long`.
            Unavailable: The issuer's keys cannot be had (`issuer.unreachable`).
        """
        digest = hashlib.sha256(text.encode()).digest()
        remembered = self._verified.get(digest)
        token = remembered[0] if remembered is not None else read(text)
        issuer = self._issuers.get(token.issuer)
        if issuer is None:
            raise refused("issuer")
        if token.algorithm not in issuer.table.algorithms:
            raise refused("algorithm")
        if remembered is None or issuer.keys.known(token.kid) != remembered[1]:
            await self._verify(text, token, issuer, digest)
        check_terms(token, audience=issuer.table.audience, max_life_s=issuer.table.max_life_s, now_s=self._now())
        return issuer.name, token

    async def _verify(self, text: str, token: AccessToken, issuer: _Issuer, digest: bytes) -> None:
        self._verified.pop(digest, None)
        key = await issuer.keys.named(token.kid)
        if key is None:
            raise refused("key_unknown")
        async with self._verifying:
            if self._verified.get(digest) == (token, key):  # others waited with the same token
                return
            await asyncio.to_thread(verify_signature, text, token.algorithm, key)
        self._verified[digest] = (token, key)
        while len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)


def taken_by(token: AccessToken, rules: Sequence[KnownRule]) -> str:
    """Return the identity of the rule that takes a token.

    Raises:
        Unauthenticated: None does, or rules of two tenants (`token.nobodys`, `token.ambiguous`).
    """
    found = [rule for rule in rules if _takes(rule, token)]
    if not found:
        raise refused("nobodys")
    if len({rule.tenant for rule in found}) > 1:
        raise refused("ambiguous")
    return found[0].identity


def _takes(rule: KnownRule, token: AccessToken) -> bool:
    table = rule.table
    return token.subject == table.subject if table.subject else token.holds(table.claim, table.value)
