"""What a mesh of many workers asks of each part besides requests: links, events, snapshots, slots. Arithmetic only.

The figures that go in are those of the services' own settings, and costs measured on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

RENEWED_EVERY_S: Final = 0.635 * 3600
"""A membership lasts an hour and is renewed between 60 and 67 percent of it."""
BUNDLE_BYTES: Final = 12_000
"""Evidence, collateral and Attestation Result of one worker, in an event."""
EVENT_S: Final = 100e-6
"""CPU of the verifier, and of a gateway, for an event on a stream."""
WATCHERS: Final = 256
"""Gateway processes that one verifier tells (`verifier/attested.py`)."""
LINK_BYTES: Final = 146_000
"""Memory of a gateway process for a link; `weigh` says what it is here."""
BUSY: Final = 0.7
"""Share of its core that a process may use, so that its p99 stays near its p50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What so many workers and gateway processes ask for; CPU in cores.

    Attributes:
        gateways: Processes that carry the load.
        verifier_cores: For telling every gateway process of every renewal.
        gateway_events: Of one process, for hearing of them.
        links_mb: Of one gateway process.
        snapshot_mb: What a gateway process that starts is told.
        slots_short: Workers have fewer slots than gateway processes: then each process has one and no bound holds.
        watchers_short: More gateway processes than one verifier tells.
    """

    workers: int
    gateways: int
    verifier_cores: float
    gateway_events: float
    links_mb: float
    snapshot_mb: float
    slots_short: bool
    watchers_short: bool


def demand(workers: int, gateways: int, slots: int, link_bytes: float = LINK_BYTES) -> Demand:
    """For a mesh in which every gateway process is linked with every worker."""
    renewals_per_s = workers / RENEWED_EVERY_S
    return Demand(
        workers=workers,
        gateways=gateways,
        verifier_cores=renewals_per_s * gateways * EVENT_S + gateways * EVENT_S,
        gateway_events=renewals_per_s * EVENT_S,
        links_mb=workers * link_bytes / 1e6,
        snapshot_mb=workers * BUNDLE_BYTES / 1e6,
        slots_short=gateways > slots,
        watchers_short=gateways > WATCHERS,
    )


def gateways_for(per_s: float, call_s: float) -> int:
    """Gateway processes that carry so many requests a second."""
    return max(1, ceil(per_s * call_s / BUSY))
