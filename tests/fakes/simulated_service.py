"""A verifier or worker with the simulator's quoter, without the simulator's command, which loads what services do not.

python -m fakes.simulated_service worker SETTINGS PLATFORM
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from cloister_simulator import store
from cloister_simulator.measurement import verifier_measurement, worker_measurement
from cloister_simulator.verifier import run_verifier
from cloister_simulator.worker import run_worker


def main(service: str, settings: str, folder: str) -> int:
    """Serve until told to stop."""
    platform = store.load(Path(folder), datetime.now(UTC))
    if service == "verifier":
        return run_verifier(Path(settings), platform, verifier_measurement())
    return run_worker(Path(settings), platform, worker_measurement())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
