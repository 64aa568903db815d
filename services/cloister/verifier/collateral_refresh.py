"""Collateral from a source, asked again and again, and at once for a platform family that nobody has collateral for.

All families are asked for together, so that they share one state of the lists they share. A source that is down,
broken, or brings what is older changes nothing: what is in force stays until its own end.

An attester's word can make this service ask for its family, so that is bounded: the platform must be genuine, a family
is asked for once an hour, few at a time, and two rounds do not follow at once. What leaves is the family: six bytes,
the TEE and the CA. The address is the operator's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from cloister.appraisal.collateral import Collateral
from cloister.appraisal.family import Family, family_of_collateral
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, Unavailable
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.pcs import Wanted
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_files import FetchedFile

MAX_UNKNOWN: Final = 16

_log = get_logger()


class CollateralSource(Protocol):
    """Where collateral is fetched."""

    async def fetch(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, bytes | CloisterError]:
        """Collateral for each family, believed by nobody yet, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a source is asked; seconds.

    Attributes:
        every_s: Between rounds, give or take a tenth.
        failed_s: Before the next round when one brought nothing.
        gap_s: Least time between two rounds.
        unknown_s: Least time between two requests for a family that came to nothing.
    """

    every_s: float
    failed_s: float = 300.0
    gap_s: float = 2.0
    unknown_s: float = 3600.0


class Round(NamedTuple):
    """How many families were asked for, and for how many of them nothing usable came."""

    asked: int
    failed: int


class Refresher:
    """Keeps a store's collateral fresh.

    Args:
        source: Where to ask.
        store: What to refresh.
        kept: Where to keep what came.
        update: Which evaluation data: `standard` or `early`.
        pace: How often.
        metrics: Counts what came of it.
        now: Aware UTC.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        source: CollateralSource,
        store: CollateralStore,
        kept: FetchedFile,
        *,
        update: str,
        pace: Pace,
        metrics: Metrics,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._source = source
        self._store = store
        self._kept = kept
        self._update = update
        self._pace = pace
        self._metrics = metrics
        self._now = now
        self._monotonic = monotonic
        self._unknown: dict[Family, None] = {}
        self._asked: dict[Family, float] = {}
        self._woken = asyncio.Event()

    def want(self, family: Family) -> bool:
        """Ask for a family that is unknown, soon; says whether it will be. On the event loop."""
        now = self._monotonic()
        self._asked = {one: at for one, at in self._asked.items() if now - at < self._pace.unknown_s}
        if family in self._asked or len(self._unknown) >= MAX_UNKNOWN:
            return False
        self._asked[family] = now
        self._unknown[family] = None
        self._woken.set()
        return True

    async def refreshing(self) -> None:
        """Ask again and again, for as long as the service runs."""
        while True:
            self._woken.clear()
            done = await self.refresh()
            wait_s = min(self._pace.every_s, self._pace.failed_s) if done.failed else self._pace.every_s
            if done.asked:
                await asyncio.sleep(min(self._pace.gap_s, wait_s))
            try:
                async with asyncio.timeout(wait_s * random.uniform(0.9, 1.1)):  # noqa: S311  # jitter
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> Round:
        """Ask once, for every family that is in force, refused or wanted."""
        unknown, self._unknown = self._unknown, {}
        families = {**dict.fromkeys((*self._store.held, *self._store.objections)), **unknown}
        wanted = {_wanted(family, self._update): family for family in families}
        answers = await self._source.fetch(list(wanted)) if wanted else {}
        failed = await asyncio.to_thread(self._take, {wanted[one]: answer for one, answer in answers.items()})
        return Round(len(wanted), failed)

    def _take(self, answers: Mapping[Family, bytes | CloisterError]) -> int:
        """Bring what came into force; says how many answers were of no use."""
        good: dict[Family, bytes] = {}
        for family, answer in answers.items():
            try:
                good[family] = _about(family, answer)
            except CloisterError as error:
                self._metrics.collateral_refreshed("failed")
                _log.error("collateral.not_fetched", family=str(family), error=error, kept=family in self._store.held)
        try:
            adopted = self._store.offer(list(good.values()), self._now())
        except Unavailable as error:
            _log.error("collateral.not_remembered", error=error, consequence="what came is not in force")
            return len(answers)
        refused = good.keys() & self._store.objections.keys()
        for family in good:
            outcome = "adopted" if family in adopted else "refused" if family in refused else "unchanged"
            self._metrics.collateral_refreshed(outcome)
        if adopted:
            self._kept.write([one.raw for one in self._store.held.values()], self._now())
        return len(answers) - len(good) + len(refused)


def _about(family: Family, answer: bytes | CloisterError) -> bytes:
    """The answer, if it is collateral of this family; raises CloisterError for anything else."""
    if isinstance(answer, CloisterError):
        raise answer
    try:
        found = family_of_collateral(Collateral.parse(answer))
    except EvidenceRejected as error:
        raise InvalidRequest(f"the source's answer is unusable: {error}", reason=error.reason) from error
    if found != family:
        raise InvalidRequest(f"the source answers with collateral of {found}", reason="collateral.mismatched")
    return answer


def _wanted(family: Family, update: str) -> Wanted:
    return Wanted(tee=family.tee.value, fmspc=family.fmspc.hex(), ca=family.ca.value, update=update)
