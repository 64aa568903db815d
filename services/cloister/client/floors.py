"""Floors: what a client puts up with at least, however genuine the worker is that offers less (attacks G14).

A gateway chooses whom it offers. It can leave out the workers that speak the newest version or have a key that holds
against quantum computers, and offer older ones, which are as genuine. Nothing of this is negotiated on the wire: what a
worker can do is inside what its quote signs, and below a floor its evidence is refused, with the floor named. How old
its code may be is a floor too: that is the policy's, as reference values (`minimum_isvsvn`), or a list of measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence.binding import Claims
from cloister.seal.hpke import SUITES, XWING
from cloister.seal.session_keys import SEAL_VERSION

_MEMBERS: Final = frozenset({"hpke_suites", "seal_version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """The floors of one client.

    Attributes:
        hpke_suites: Suites that requests may be sealed by; X-Wing alone unless somebody says otherwise.
        seal_version: The oldest version of sealing that a worker may speak; lengths are hidden from 2 on.
    """

    hpke_suites: frozenset[str] = frozenset({XWING})
    seal_version: int = 1

    def __post_init__(self) -> None:
        """Raises InvalidRequest for what is no floor."""
        if not self.hpke_suites or not self.hpke_suites <= SUITES:
            raise InvalidRequest(
                f"'hpke_suites' in 'floors' is not a list of one or more of {', '.join(sorted(SUITES))}"
            )
        if type(self.seal_version) is not int or not 1 <= self.seal_version <= SEAL_VERSION:
            raise InvalidRequest(f"'seal_version' in 'floors' is not a number from 1 to {SEAL_VERSION}")

    def check(self, claims: Claims) -> None:
        """Hold what a worker can do, as its quote signs it, against the floors.

        Raises:
            EvidenceRejected: It is below one; the message says what, and which (`suite.below_floor`,
                `seal.below_floor`).
        """
        self.check_suite(claims.hpke_suite)
        if claims.seal_version < self.seal_version:
            raise EvidenceRejected(
                f"it speaks version {claims.seal_version} of sealing, below the floor of the trust bundle, version "
                f"{self.seal_version}",
                reason="seal.below_floor",
            )

    def check_suite(self, suite: str) -> None:
        """Hold the suite of a key that is sealed to against the floor.

        Raises:
            EvidenceRejected: It is below (`suite.below_floor`).
        """
        if suite not in self.hpke_suites:
            raise EvidenceRejected(
                f"requests would be sealed to it by '{suite[:64]}', below the floor of the trust bundle, "
                f"'{' or '.join(sorted(self.hpke_suites))}'; to allow it: 'cloister trust accept --hpke-suite'",
                reason="suite.below_floor",
            )

    def to_plain(self) -> dict[str, object]:
        """As in the bundle's file."""
        return {"hpke_suites": sorted(self.hpke_suites), "seal_version": self.seal_version}

    @classmethod
    def from_plain(cls, value: object) -> Floors:
        """Read what `to_plain` gave; raises ValueError or InvalidRequest for anything else."""
        if not isinstance(value, Mapping) or value.keys() != _MEMBERS:
            raise ValueError("'floors' is not an object with 'hpke_suites' and 'seal_version'")
        match value["hpke_suites"], value["seal_version"]:
            case list(suites), int(version) if all(isinstance(suite, str) for suite in suites):
                return cls(hpke_suites=frozenset(suites), seal_version=version)
        raise ValueError("'floors' is not what it should be")
