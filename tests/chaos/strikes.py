"""What is killed, in which order and after which pauses: drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random


class Target(Enum):
    """What a SIGKILL may hit."""

    GATEWAY = "gateway"
    """The parent, which the supervisor starts again."""
    FACE = "gateway's process"
    """One that answers clients, or the Envoy around it; the parent starts it again."""
    JOBS = "jobs process"
    """Likewise."""
    WORKER = "worker"
    REDIS = "redis-server"
    CLIENT = "client"


WEIGHTS = {
    Target.GATEWAY: 12,
    Target.FACE: 13,
    Target.JOBS: 25,
    Target.WORKER: 20,
    Target.REDIS: 20,
    Target.CLIENT: 10,
}
TOGETHER = 0.1
"""How many follow the one before at once."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One kill.

    Attributes:
        pick: 0 to 1, which of the processes that it could be.
        pause_s: Before it.
    """

    target: Target
    pick: float
    pause_s: float


def strikes(seed: int, kills: int, gap_s: float) -> list[Strike]:
    """So many, on average so far apart; each target at least once if there are enough."""
    draw = Random(seed)
    targets = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=max(0, kills - len(WEIGHTS)))
    targets += list(Target)[: kills - len(targets)]
    draw.shuffle(targets)
    return [Strike(target, draw.random(), _pause_s(draw, gap_s)) for target in targets]


def _pause_s(draw: Random, gap_s: float) -> float:
    return 0.0 if draw.random() < TOGETHER else min(draw.expovariate(1 / gap_s), 4 * gap_s)
