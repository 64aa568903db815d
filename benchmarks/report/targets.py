"""What the mesh is meant to reach, and whether it did in this run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.report.half_load import HalfLoad
from benchmarks.report.samples import Row

TINY = ("mlp", "ffnn")
UNARY_US, STREAM_US, SEALING, OF_LIMIT = 450.0, 200.0, 1.05, 0.90
SPREAD = 3.0
"""How many times its p50 the p99 may be at half load."""


class Verdict(NamedTuple):
    """One target."""

    what: str
    target: str
    found: str
    met: bool


def verdicts(network: str, rows: Sequence[Row]) -> list[Verdict]:
    """Those that concern this network, at the most requests in flight that were measured."""
    mesh = {row.kind.carrier: row for row in rows if row.kind.system == "mesh" and row.kind.in_flight == _most(rows)}
    if network not in TINY:
        sealed = [row for carrier, row in mesh.items() if carrier.startswith("sealed")]
        rates = [_of_limit(f"of OpenVINO's rate, {row.kind.carrier}", row.of_limit) for row in sealed]
        return rates + [_of_limit(f"the same by CPU, {row.kind.carrier}", row.cpu_of_limit) for row in sealed]
    found = [
        _at_most(f"CPU of all services, {carrier}", mesh[carrier].total_cpu_us, limit)
        for carrier, limit in (("unary", UNARY_US), ("stream", STREAM_US))
        if carrier in mesh
    ]
    for plain, sealed in (("unary", "sealed"), ("stream", "bare sealed stream")):
        if plain in mesh and sealed in mesh:
            share = mesh[sealed].total_cpu_us / mesh[plain].total_cpu_us
            what, target = f"sealing adds, {plain}", f"at most {SEALING - 1:.0%}"
            found.append(Verdict(what, target, f"{share - 1:.0%}", share <= SEALING))
    return found


def spreads(found: Sequence[HalfLoad]) -> list[Verdict]:
    """Those that concern the mesh at half load."""
    return [
        Verdict(
            f"p99 at half load, {each.carrier}",
            f"at most {SPREAD:.0f} × p50",
            f"{each.spread:.1f} ×",
            0 < each.spread <= SPREAD and not each.lost,
        )
        for each in found
        if each.system == "mesh"
    ]


def _at_most(what: str, found_us: float, limit_us: float) -> Verdict:
    return Verdict(what, f"at most {limit_us:.0f} µs", f"{found_us:.0f} µs", found_us <= limit_us)


def _of_limit(what: str, share: float) -> Verdict:
    return Verdict(what, f"at least {OF_LIMIT:.2f}", f"{share:.2f}", share >= OF_LIMIT)


def _most(rows: Sequence[Row]) -> int:
    return max((row.kind.in_flight for row in rows), default=0)
