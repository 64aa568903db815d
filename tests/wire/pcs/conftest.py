from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cloister.errors import CloisterError
from cloister.pcs import Source, Wanted
from cloister.pcs.client import PcsClient
from cloister.pcs.download import Limits
from cloister_simulator.platform import Platform
from fakes.held_collateral import family_of
from fakes.pcs_server import DRIPS, PcsServer
from fakes.pki import MeshPki
from fakes.sim import simulated_platform

PATIENT = Limits(deadline_s=20.0)


@dataclass
class Asking:
    """A client that waits by writing down how long it would have."""

    pauses: list[float] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def client(self, service: PcsServer, *, ca_file: Path | None = None, proxy: str = "") -> PcsClient:
        limits = replace(PATIENT, deadline_s=1.0) if service.misbehaves in DRIPS else PATIENT
        source = Source(url=service.url, root_crl_url=service.root_crl_url, ca_file=ca_file, proxy=proxy)
        return PcsClient(source, limits=limits, pause=self.pause)

    async def fetch(self, service: PcsServer, *wanted: Wanted, ca_file: Path | None = None) -> bytes | CloisterError:
        """What comes for the first."""
        return (await self.client(service, ca_file=ca_file).fetch(wanted))[wanted[0]]


def wanted_for(platform: Platform) -> Wanted:
    family = family_of(platform)
    return Wanted(tee=family.tee.value, fmspc=family.fmspc.hex(), ca=family.ca.value)


@pytest.fixture
def asking() -> Asking:
    return Asking()


@pytest.fixture
def platform() -> Platform:
    return simulated_platform()


@pytest.fixture
def wanted(platform: Platform) -> Wanted:
    return wanted_for(platform)


@pytest.fixture
def tls() -> MeshPki:
    return MeshPki()


@pytest.fixture
def ca_file(tls: MeshPki, tmp_path: Path) -> Path:
    path = tmp_path / "pccs_ca.pem"
    path.write_bytes(tls.roots_pem)
    return path


@pytest.fixture
def simulated(platform: Platform) -> Callable[..., PcsServer]:
    """A service that has the simulated platform's collateral, one fixed set of bytes."""
    raw = platform.collateral()
    return lambda **changes: PcsServer([raw], **changes)
