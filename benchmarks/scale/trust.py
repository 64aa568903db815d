"""How large a mesh the simulation is believed of: up to where the first of its parts leaves what was measured of it.

Queues scale in a simulation as they do in a mesh, so long as each part goes on costing what it cost where it was
measured. Each row says up to which size that is so of one part, by which command, and what would decide beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.scale import weigh
from benchmarks.scale.limits import BUSY, WATCHERS, gateways_for
from benchmarks.scale.links import MANY
from benchmarks.scale.study import Case, workers_per_s

WORKERS, GATEWAYS = "workers", "gateway processes"
LEASES_WATCHED: Final = 1000
"""Streams to the provisioner that `make bench-leases` had open."""
WATCHING_CORES: Final = 0.09
"""What they cost it."""
RENEWED_AT_ONCE_S: Final = 7.0
"""How long that many take to renew, each with a new result, where verifier and provisioner have a core each (0057)."""
SHORTEST_S: Final = 20.0
"""What the shortest lease leaves from its renewal to its end."""
INSTANCES: Final = 16_384
"""That a verifier knows at once (`verifier/attested.py`)."""
MOST: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One part.

    Attributes:
        of: What its cost grows with.
        measured: Up to how many that was measured.
        trusted: Up to how many the simulation is believed for its sake.
        why: What was measured, and what decides beyond.
    """

    part: str
    of: str
    measured: int
    trusted: int
    why: str


_LINKS: Final = (
    Reach(
        part="a gateway chooses a worker",
        of=WORKERS,
        measured=MANY,
        trusted=MANY,
        why="its dispatcher with so many links, by this command",
    ),
    Reach(
        part="memory for links",
        of=WORKERS,
        measured=weigh.MANY,
        trusted=MANY,
        why="weighed by this command; it takes memory and no time",
    ),
)
_ATTESTED: Final = (
    Reach(
        part="workers that renew at once",
        of=WORKERS,
        measured=LEASES_WATCHED,
        trusted=round(LEASES_WATCHED * SHORTEST_S / RENEWED_AT_ONCE_S),
        why="make bench-leases: 7 s a thousand with a core each; beyond, the shortest lease ends before its turn",
    ),
    Reach(
        part="workers that watch leases",
        of=WORKERS,
        measured=LEASES_WATCHED,
        trusted=round(LEASES_WATCHED * BUSY / WATCHING_CORES),
        why="make bench-leases: 0.09 of the provisioner's core a thousand, which releases share",
    ),
    Reach(
        part="workers that are attested",
        of=WORKERS,
        measured=LEASES_WATCHED,
        trusted=INSTANCES,
        why="make bench-renewals: a thousand at once; a verifier knows no more, who left within the hour included",
    ),
)


def reaches(gateways: int, slots: int) -> list[Reach]:
    """All parts that a larger mesh asks more of.

    Args:
        gateways: Most gateways that ran here beside the simulation.
        slots: Of a worker.
    """
    return [
        *_LINKS,
        Reach(
            part="a worker's slots",
            of=GATEWAYS,
            measured=gateways,
            trusted=slots,
            why="divided equally here, by use in a worker; beyond, each link still has one and nothing bounds a worker",
        ),
        Reach(
            part="the verifier's feed",
            of=GATEWAYS,
            measured=gateways,
            trusted=WATCHERS,
            why="100 µs an event is arithmetic, 0.14 cores at its end; the verifier refuses more watchers",
        ),
        *_ATTESTED,
    ]


def largest(case: Case, known: Sequence[Reach]) -> tuple[int, int, Reach]:
    """The most workers that the simulation is believed of, their gateway processes, and what ends it."""

    def size(workers: int) -> dict[str, int]:
        per_s = BUSY * workers_per_s(case, workers)
        return {WORKERS: workers, GATEWAYS: gateways_for(per_s, case.costs.gateway_call_s)}

    def beyond(workers: int) -> list[Reach]:
        return [reach for reach in known if size(workers)[reach.of] > reach.trusted]

    low, high = 0, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return low, size(low)[GATEWAYS] if low else 0, beyond(high)[0]
