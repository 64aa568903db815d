"""Quoters that stand where Gramine's `/dev/attestation`, or the kernel of a trust domain, would."""

from __future__ import annotations

from dataclasses import asdict

from cloister_simulator.measurement import Measurement
from cloister_simulator.platform import Platform
from cloister_simulator.trust_domain import TrustDomain


class SimulatedQuoter:
    """Quotes by `platform` for one enclave (`cloister.evidence.quoter.Quoter`).

    Args:
        platform: Who quotes.
        measurement: The enclave that is quoted.
    """

    def __init__(self, platform: Platform, measurement: Measurement) -> None:
        self._platform = platform
        self._measurement = measurement

    async def quote(self, report_data: bytes) -> bytes:
        """Return a raw quote over these 64 bytes. Under a millisecond, so it stays on the loop."""
        return self._platform.quote(report_data, **asdict(self._measurement))


class SimulatedTdQuoter:
    """Quotes by `platform` for one trust domain (`cloister.evidence.quoter.Quoter`).

    Args:
        platform: Who quotes.
        domain: The trust domain that is quoted.
    """

    def __init__(self, platform: Platform, domain: TrustDomain) -> None:
        self._platform = platform
        self._domain = domain

    async def quote(self, report_data: bytes) -> bytes:
        """Return a raw quote over these 64 bytes. Under a millisecond, so it stays on the loop."""
        return self._platform.td_quote(report_data, self._domain)
