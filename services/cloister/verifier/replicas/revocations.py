"""Revocations that several verifiers share: what one revokes or lifts holds at all of them.

Each keeps them in a file of its own, and none in Redis; the stream passes them on as they are made. When a replica's
session begins, or it missed something, it tells all that it knows and then the digest of all, and whoever knows other
than that tells everything in turn. Rulings are merged by rank, so a Redis that was flushed or set back lifts nothing,
and a replica that comes back with an old file neither brings back what was lifted nor loses what was revoked.

A lift comes with the order that people signed for it, and every replica checks that against its own settings: the
shared key alone lifts nothing where signatures are needed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from cloister.errors import InvalidRequest, NotAllowed, NotReady, Overloaded, Unavailable
from cloister.kit.log import get_logger
from cloister.kit.revocation import Name
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.lift_orders import LiftOrders
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.entries import Kind
from cloister.verifier.replicas.link import RETRY_S, Link
from cloister.verifier.replicas.runner import Runner
from cloister.verifier.revocations import Revocations
from cloister.verifier.revoker import put_out
from cloister.verifier.rulings import Ruling, decoded, encoded

_PAGE_BYTES: Final = scripts.MAX_RECORD_BYTES // 2
_log = get_logger()


class SharedRevocations:
    """Tells the others what is ruled here, and brings in force what they rule. Called on the event loop only.

    Args:
        orders: Says whose lifts count here.
    """

    def __init__(
        self, revocations: Revocations, attested: AttestedWorkers, link: Link, runner: Runner, *, orders: LiftOrders
    ) -> None:
        self._revocations = revocations
        self._attested = attested
        self._link = link
        self._runner = runner
        self._orders = orders
        self._told: dict[Name, Ruling] = {}
        self._news = asyncio.Event()
        self._asking = False

    def begin(self) -> None:
        """Have everything told that we know, and hear from whoever knows more."""
        self._asking = True
        self.tell_all()

    def tell_all(self) -> None:
        """Have everything told that we know."""
        self._told = {}
        self._news.set()

    async def hear(self, told: bytes) -> None:
        """Bring another's rulings into force, kept in our own file too; members that they name leave."""
        try:
            heard = await asyncio.to_thread(decoded, told)
        except (ValueError, KeyError, TypeError, InvalidRequest):
            self._runner.refused("state.malformed", what="rulings")
            return
        self._told.update((each.name, each) for each in heard)
        news = [each for each in self._revocations.news(heard) if self._is_ordered(each)]
        if not news:
            return
        try:
            await self._revocations.merge(news)
        except Unavailable as error:
            _log.error("revocation.not_kept", error=error, consequence="in force, and a restart may forget it")
        for each in news:
            said = {"kind": each.name.kind.value, "value": each.name.value, "by": each.revocation.by}
            _log.warning("revocation.heard", lifted=each.lifted, **said)
        await self.put_out([each.name for each in news])

    async def compare(self, digest: bytes) -> None:
        """Hear of what another knows, which has just told it; if that is not what we know, it is told."""
        if await asyncio.to_thread(_digest, self._revocations.rulings) != digest:
            self.tell_all()

    async def put_out(self, names: Sequence[Name] | None = None) -> None:
        """Take members out that are revoked by one of these names, or by any."""
        in_force = self._revocations.names
        await put_out(self._attested, in_force if names is None else in_force.intersection(names))

    async def watching(self) -> None:
        """Notice what is ruled here, until the service goes."""
        try:
            while True:
                version = self._revocations.version
                self._news.set()
                await self._revocations.changed(version)
        except Unavailable:
            return

    async def telling(self) -> None:
        """Tell what is new, for as long as the service runs; what cannot be told now is told when it can be."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._tell()
            except (Unavailable, Overloaded, NotReady):
                await asyncio.sleep(RETRY_S)
                self._news.set()

    async def _tell(self) -> None:
        told, rulings = self._told, self._revocations.rulings
        for name in told.keys() - {each.name for each in rulings}:
            del told[name]
        news = [each for each in rulings if told.get(each.name) != each]
        for page in await asyncio.to_thread(lambda: list(_pages(news))):
            await self._link.write(scripts.WRITE, Kind.RULED, encoded(page))
            told.update((each.name, each) for each in page)
        if self._asking:
            await self._link.write(scripts.WRITE, Kind.KNOWN, await asyncio.to_thread(_digest, rulings))
            # Where `begin` came between, all is told once more.
            self._asking = told is not self._told

    def _is_ordered(self, ruling: Ruling) -> bool:
        """Whether a lift was signed by as many as must, by our own settings; if not, it is as if it were not said."""
        if not ruling.lifted:
            return True
        try:
            self._orders.check(ruling.order, ruling.name, ruling.revocation.revoked_at)
        except NotAllowed as error:
            self._runner.refused(error.reason, what="lift", value=ruling.name.value)
            return False
        return True


def _pages(rulings: Sequence[Ruling]) -> Iterator[list[Ruling]]:
    """As many at a time as fit an entry."""
    page: list[Ruling] = []
    size_bytes = 0
    for each in rulings:
        own_bytes = len(encoded([each]))
        if page and size_bytes + own_bytes > _PAGE_BYTES:
            yield page
            page, size_bytes = [], 0
        page.append(each)
        size_bytes += own_bytes
    if page:
        yield page


def _digest(rulings: Sequence[Ruling]) -> bytes:
    return hashlib.sha256(encoded(sorted(rulings, key=lambda each: (each.name.kind.value, each.name.value)))).digest()
