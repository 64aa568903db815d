"""A verifier's collateral over simulated platforms: a file that it watches, and platforms that a test may break."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral_bundle import CollateralBundle
from cloister.appraisal.family import Family, family_of_quote
from cloister.appraisal.quote import parse_quote
from cloister.verifier.collateral import CollateralStore, Endorsements
from cloister.verifier.collateral_files import CollateralInFile
from cloister.verifier.collateral_memory import FileMemory
from cloister_simulator.platform import Platform


def quote_of(platform: Platform) -> bytes:
    """A quote of any enclave on it."""
    return platform.quote(bytes(64))


def family_of(platform: Platform) -> Family:
    """The family that its quotes name."""
    return family_of_quote(parse_quote(quote_of(platform)))


def other_family(platform: Platform, fmspc: str = "30806f000000") -> Platform:
    """A platform of another family under the same root."""
    other = platform.copy()
    other.fmspc = bytes.fromhex(fmspc)
    return other


def bundle(version: int, *platforms: Platform, now: datetime) -> CollateralBundle:
    """A bundle of these platforms' collateral."""
    return CollateralBundle(version=version, issued_at=now, collaterals=tuple(one.collateral() for one in platforms))


@dataclass
class HeldCollateral:
    """A platform's collateral in a file that a verifier watches."""

    folder: Path
    platform: Platform
    signers: frozenset[str] = frozenset()
    store: CollateralStore = field(init=False)

    @property
    def path(self) -> Path:
        return self.folder / "collateral.json"

    @property
    def memory(self) -> Path:
        return self.folder / "seen.json"

    @property
    def anchor(self) -> TrustAnchor:
        return TrustAnchor("simulated", self.platform.root_der())

    def publish(self, raw: bytes | None = None) -> bytes:
        """Put other content in the file's place: the platform's own where nothing is given."""
        content = self.platform.collateral() if raw is None else raw
        staged = self.folder / "collateral.new"
        staged.write_bytes(content)
        staged.rename(self.path)
        return content

    def restart(self) -> CollateralStore:
        """All that lives in memory is new."""
        watched = CollateralInFile(self.path, signers=self.signers)
        self.store = CollateralStore(self.anchor, FileMemory(self.memory), watched=watched)
        return self.store

    def current(self, now: datetime, platform: Platform | None = None) -> Endorsements:
        """What is in force for the platform, or another."""
        return self.store.current(quote_of(platform or self.platform), now)
