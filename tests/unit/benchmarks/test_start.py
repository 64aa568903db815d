"""What a worker's log says of its starts."""

from __future__ import annotations

from benchmarks.scenarios.start import STAGES, started

JOINED = '{"event": "mesh.joined", "attest_ms": 1.0}'
LOADED = '{"event": "model.loaded", "open_ms": 3, "read_ms": 4, "check_ms": 5, "compile_ms": 6, "tune_ms": 7}'
SERVED = '{"event": "model.served", "release_ms": 2.0}'


def test_each_whole_start_is_read_and_nothing_else() -> None:
    lines = [JOINED, "not JSON", "3", JOINED, LOADED, SERVED, SERVED.replace("served", "replaced"), JOINED, SERVED]
    assert list(started(lines)) == [dict(zip(STAGES, map(float, range(1, 8)), strict=True))]
