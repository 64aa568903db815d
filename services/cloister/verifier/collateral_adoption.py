"""Which of the collateral that is offered comes into force beside what is: the rule, without clock, disk or lock.

It must parse, lead back to the anchor, and no part of it may be older than what was seen of that part. Families share
parts: where one has an older list than another, it is given the newer one. Each part is signed for itself, so what
comes of it is as genuine, and the newest list of a CA is in force for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cloister.appraisal import freshness
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.collateral_bundle import MAX_FAMILIES
from cloister.appraisal.family import Family, family_of_collateral
from cloister.appraisal.freshness import Ages
from cloister.appraisal.steps import Step, rejected
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest

ROLLED_BACK: Final = "collateral.rolled_back"


@dataclass(frozen=True, slots=True)
class Endorsements:
    """Verified collateral, and the exact bytes that clients get in order to judge for themselves."""

    verified: VerifiedCollateral
    raw: bytes = field(repr=False)


Held = Mapping[Family, Endorsements]


@dataclass(slots=True)
class Adoption:
    """What came of an offer.

    Attributes:
        adopted: What is in force now and was not before.
        confirmed: Families for which what is in force was offered once more.
        objections: Why something is not, by family.
        unreadable: What was wrong with collateral that names no family.
        refused: The collateral that `objections` are about.
    """

    adopted: dict[Family, Endorsements] = field(default_factory=dict)
    confirmed: set[Family] = field(default_factory=set)
    objections: dict[Family, EvidenceRejected] = field(default_factory=dict)
    unreadable: list[CloisterError] = field(default_factory=list)
    refused: dict[Family, bytes] = field(default_factory=dict, repr=False)

    @property
    def ages(self) -> dict[str, list[int]]:
        """How new each part of what was adopted is."""
        return freshness.newest(*(freshness.ages(one.verified) for one in self.adopted.values()))


def adopt(offered: Sequence[bytes], held: Held, seen: Ages, anchor: TrustAnchor, now: datetime) -> Adoption:
    """Decide what of `offered`, taken together, comes into force.

    Args:
        offered: QuoteCollateralV3 JSON of any families; of two for one family the newer counts.
        held: What is in force.
        seen: How new the newest of each part was, ever.
        anchor: What all of it must lead back to.
        now: Aware.
    """
    found = Adoption()
    candidates = _candidates(offered, held, anchor, now, found)
    pool = [one.verified for one in (*held.values(), *candidates.values())]
    for family, candidate in {**held, **candidates}.items():
        try:
            _check_not_older(candidate, held.get(family))
            renewed = _renewed(candidate, pool, anchor, now)
            if renewed is held.get(family):
                continue
            _check_ages(freshness.ages(renewed.verified), seen)
            _check_room(family, {**held, **found.adopted})
            found.adopted[family] = renewed
            found.objections.pop(family, None)
        except EvidenceRejected as error:
            if family in candidates:  # what is in force stays, whether or not it can be renewed
                found.objections[family] = error
                found.refused[family] = candidate.raw
    return found


def rolled_back(parts: Sequence[str]) -> EvidenceRejected:
    """The error for collateral of which these parts are older than what was seen."""
    what = f"the collateral is older than what was seen before: {', '.join(parts)}"
    return rejected(Step.CHAIN, ROLLED_BACK, what)


def _candidates(
    offered: Sequence[bytes], held: Held, anchor: TrustAnchor, now: datetime, found: Adoption
) -> dict[Family, Endorsements]:
    """The newest of each family that is genuine now, and is not in force already."""
    newest: dict[Family, Endorsements] = {}
    for raw in offered:
        try:
            collateral = Collateral.parse(raw)
            family = family_of_collateral(collateral)
        except (InvalidRequest, EvidenceRejected) as error:
            found.unreadable.append(error)
            continue
        if family in held and held[family].verified.collateral.to_json() == collateral.to_json():
            found.confirmed.add(family)
            continue
        try:
            one = Endorsements(collateral.verified(anchor, now), raw)
        except EvidenceRejected as error:
            found.objections[family] = error
            found.refused[family] = raw
            continue
        if family not in newest or _order(newest[family]) < _order(one):
            newest[family] = one
    return newest


def _order(one: Endorsements) -> list[list[int]]:
    return list(freshness.ages(one.verified).values())


def _renewed(one: Endorsements, pool: Sequence[VerifiedCollateral], anchor: TrustAnchor, now: datetime) -> Endorsements:
    collateral = freshness.renewed(one.verified, pool)
    if collateral is one.verified.collateral:
        return one
    return Endorsements(collateral.verified(anchor, now), collateral.to_json())


def _check_not_older(candidate: Endorsements, before: Endorsements | None) -> None:
    if before is not None:
        _check_ages(freshness.ages(candidate.verified), freshness.ages(before.verified))


def _check_ages(ages: Ages, seen: Ages) -> None:
    if older := freshness.older(ages, seen):
        raise rolled_back(older)


def _check_room(family: Family, held: Held) -> None:
    if family not in held and len(held) >= MAX_FAMILIES:
        raise rejected(Step.CHAIN, "collateral.families_full", f"more than {MAX_FAMILIES} platform families")
