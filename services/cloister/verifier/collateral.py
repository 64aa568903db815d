"""The collateral in force, of every platform family: chosen by the quote, and never going back.

What is offered, by a file or a source, comes into force by the rule in `collateral_adoption`, and how new it was is
remembered past a restart. Otherwise what is in force stays, and the log says why. When that has expired, no evidence of
the family is appraised: the fault is ours, so members hear that we are not ready and stay until their results end.

Blocking and thread safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cloister.appraisal import freshness
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.family import Family, check_endorsed, family_of_quote
from cloister.appraisal.quote import Quote, parse_quote
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.verifier.collateral_adoption import ROLLED_BACK, Adoption, Endorsements, adopt, rolled_back
from cloister.verifier.collateral_files import CollateralInFile
from cloister.verifier.collateral_memory import CollateralMemory

__all__ = ["BUNDLE", "CollateralStore", "Endorsements"]

BUNDLE: Final = "bundle"  # the part of the memory that versions of bundles are kept in

_log = get_logger()


class CollateralStore:
    """The collateral in force.

    Args:
        anchor: What all of it must lead back to.
        memory: How new the newest of each part was.
        watched: The operator's file, looked at before each answer.

    Attributes:
        on_adopted: Each is called with the families that have other collateral than before, after it is in force and in
            the thread that brought it. It must be quick and must not raise: set an event, and do the work elsewhere.
        on_unknown: Each is called, likewise, with a family that a genuine platform is of and nobody has collateral for.
        on_refused: Each is called, likewise, with the reason why something that was offered is not in force, and the
            family that it is for, or None where that could not be read; once until the reason is another.
    """

    def __init__(
        self, anchor: TrustAnchor, memory: CollateralMemory, *, watched: CollateralInFile | None = None
    ) -> None:
        self.on_adopted: list[Callable[[frozenset[Family]], None]] = []
        self.on_unknown: list[Callable[[Family], None]] = []
        self.on_refused: list[Callable[[str, Family | None], None]] = []
        self._anchor = anchor
        self._memory = memory
        self._watched = watched
        self._adopting = threading.RLock()
        # Replaced and never changed, so that they are read without the lock.
        self._held: Mapping[Family, Endorsements] = MappingProxyType({})
        self._objections: Mapping[Family, EvidenceRejected] = MappingProxyType({})
        self._refused: Mapping[Family, bytes] = MappingProxyType({})

    @property
    def held(self) -> Mapping[Family, Endorsements]:
        """What is in force, expired or not."""
        return self._held

    def holds(self, endorsements: Endorsements) -> bool:
        """Whether exactly this is in force still."""
        return any(one is endorsements for one in self._held.values())

    @property
    def objections(self) -> Mapping[Family, EvidenceRejected]:
        """Why what was last offered for a family is not in force, for each family where that is so."""
        return self._objections

    @property
    def refused(self) -> tuple[bytes, ...]:
        """What was offered and is not believed, but might be at another time."""
        return tuple(self._refused.values())

    def current(self, raw_quote: bytes, now: datetime) -> Endorsements:
        """The collateral in force at `now` for the platform of a quote.

        Raises:
            EvidenceRejected: Steps 1 and 2; the quote names no platform family, or nobody vouches for its platform.
            NotReady: There is no collateral for the family (`collateral.family_unknown`), or it has expired, never led
                back to the anchor, or is older than what was seen.
            Unavailable: What was seen cannot be remembered.
        """
        quote = parse_quote(raw_quote)
        family = family_of_quote(quote)
        self.look(now)
        found = self._held.get(family)
        if found is None:
            raise self._missing(family, quote, now)
        try:
            found.verified.verified(self._anchor, now)
        except EvidenceRejected as error:
            raise _not_ready(error.reason) from error
        return found

    def look(self, now: datetime) -> None:
        """Take what the watched file holds, if it is another; a file that is not as it should be changes nothing.

        Raises:
            Unavailable: What was seen cannot be remembered.
        """
        if self._watched is None:
            return
        with self._adopting:
            try:
                found = self._watched.changed()
            except (NotReady, InvalidRequest) as error:
                self._say_refused(error, None, path=str(self._watched.path))
                return
            if found is None:
                return
            try:
                self.offer(found.collaterals, now, version=found.bundle.version if found.bundle else None)
            except Unavailable:
                self._watched.unread()
                raise

    def again(self, now: datetime) -> None:
        """Offer once more what was refused: a clock that was wrong may be right again."""
        if refused := self.refused:
            self.offer(refused, now)

    def offer(self, raws: Sequence[bytes], now: datetime, *, version: int | None = None) -> frozenset[Family]:
        """Bring collateral into force as far as it is genuine, current, and not older than what was seen.

        Args:
            raws: QuoteCollateralV3 JSON of any families, taken together.
            now: Aware.
            version: Of the bundle that they came in; after a newer one, nothing of an older one is taken.

        Returns:
            The families that have other collateral than before.

        Raises:
            Unavailable: What was seen cannot be remembered; nothing was taken.
        """
        bundle = {} if version is None else {BUNDLE: [version]}
        with self._adopting:
            before, seen = self._held, self._memory.newest()
            found = adopt(raws, before, seen, self._anchor, now)
            if freshness.older(bundle, seen):
                found = _all_refused(found)
            else:
                self._memory.remember(bundle | found.ages)
            self._take(found)
        adopted = frozenset(found.adopted)
        for family in sorted(adopted):
            _tell(family, before.get(family), found.adopted[family])
        for tell in self.on_adopted if adopted else ():
            tell(adopted)
        return adopted

    def _take(self, found: Adoption) -> None:
        for error in found.unreadable:
            self._say_refused(error, None)
        for family, objection in found.objections.items():
            known = self._objections.get(family)
            if known is None or known.reason != objection.reason:
                self._say_refused(objection, family)
        settled = found.adopted.keys() | found.confirmed
        kept = {family: error for family, error in self._objections.items() if family not in settled}
        objections = kept | found.objections
        refused = {**self._refused, **found.refused}
        curable = {family for family, error in objections.items() if error.reason != ROLLED_BACK}
        self._objections = MappingProxyType(objections)
        self._held = MappingProxyType({**self._held, **found.adopted})
        self._refused = MappingProxyType({family: raw for family, raw in refused.items() if family in curable})

    def _say_refused(self, error: CloisterError, family: Family | None, **where: str) -> None:
        kept = family in self._held if family else bool(self._held)
        named = {"family": str(family)} if family else {}
        _log.error("collateral.refused", error=error, kept=kept, **named, **where)
        for tell in self.on_refused:
            tell(error.reason, family)

    def _missing(self, family: Family, quote: Quote, now: datetime) -> CloisterError:
        if objection := self._objections.get(family):
            return _not_ready(objection.reason)
        check_endorsed(quote, self._anchor, now)
        for ask in self.on_unknown:
            ask(family)
        return NotReady("the verifier has no collateral for this platform family", reason="collateral.family_unknown")


def _all_refused(found: Adoption) -> Adoption:
    """The bundle as a whole is older than one that was seen."""
    refusal = rolled_back([BUNDLE])
    families = found.adopted.keys() | found.objections.keys()
    return Adoption(objections=dict.fromkeys(families, refusal), unreadable=found.unreadable)


def _not_ready(reason: str) -> NotReady:
    return NotReady("the verifier has no collateral to appraise with", reason=reason)


def _tell(family: Family, before: Endorsements | None, after: Endorsements) -> None:
    found, name = after.verified, str(family)
    _log.info("collateral.adopted", family=name, evaluation=found.evaluation, valid_until=found.valid_until)
    known = found.pck_crl.serials if before is None else before.verified.pck_crl.serials
    if found.pck_crl.serials != known:
        revoked, withdrawn = found.pck_crl.serials - known, known - found.pck_crl.serials
        _log.warning("crl.changed", family=name, revoked=len(revoked), withdrawn=len(withdrawn))
