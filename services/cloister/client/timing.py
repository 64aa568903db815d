"""Where the time of a request went, as the gateway tells it (a Server-Timing line; docs/guides/observing.md).

Nobody vouches for it: it comes beside the answer, not inside its seal. Only `elapsed_s` was measured here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_MAX_CHARACTERS: Final = 1024
_DURATION: Final = re.compile(r"(?:^|, )([a-z]{1,20});dur=([0-9]{1,9}(?:\.[0-9]{1,6})?)")
_BATCH: Final = re.compile(r'(?:^|, )batch;desc="requests=([0-9]{1,9}) rows=([0-9]{1,9})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The parts of one request's time; the gateway's word.

    Attributes:
        elapsed_s: From here to the gateway and back, measured here.
        total_s: In the gateway, workers included; 0 where it does not say, as are all below.
        phases_s: Seconds by name, in order: `queue` (in the gateway, until it left for a worker), `wire` (between
            gateway and worker, both ways), and in the worker `open` (unsealing and reading, with all that came in the
            same frame), `wait` (for an evaluation), `compute`, `serialise` (encoding, receipt, seal); then `deliver`
            (in the gateway, until the answer left).
        batch_requests: How many requests shared the evaluation.
        batch_rows: Of all of them.
    """

    elapsed_s: float
    total_s: float
    phases_s: dict[str, float]
    batch_requests: int
    batch_rows: int

    @classmethod
    def parse(cls, line: str, elapsed_s: float) -> Self:
        """Read a Server-Timing line; whatever of it does not read is left out."""
        line = line if len(line) <= _MAX_CHARACTERS else ""
        phases_s = {name: float(milliseconds) / 1000 for name, milliseconds in _DURATION.findall(line)}
        batch = _BATCH.search(line)
        requests, rows = (int(batch[1]), int(batch[2])) if batch else (0, 0)
        return cls(
            elapsed_s=elapsed_s,
            total_s=phases_s.pop("total", 0.0),
            phases_s=phases_s,
            batch_requests=requests,
            batch_rows=rows,
        )
