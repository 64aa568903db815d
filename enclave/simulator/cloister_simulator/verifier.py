"""The verifier under a simulated root, with a simulated quoter for its own evidence.

Otherwise the process that `cloister-verifier` is, which itself refuses to run under any root but Intel's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cloister.kit.lifecycle import Lifecycle, begin, run_service
from cloister.kit.log import get_logger
from cloister_simulator.measurement import Measurement
from cloister_simulator.platform import Platform
from cloister_simulator.quoter import SimulatedQuoter

if TYPE_CHECKING:
    from cloister.verifier.settings import Settings

_log = get_logger()


def run_verifier(settings_file: Path, platform: Platform, measurement: Measurement) -> int:
    """Serve until told to stop; returns the exit code."""
    begin("verifier")
    # Imported only now: they bring gRPC along, which reads the TLS environment when it is loaded.
    from cloister.verifier.app import serve
    from cloister.verifier.settings import Settings

    async def simulated(settings: Settings, lifecycle: Lifecycle) -> None:
        _log.warning("verifier.simulated", mrenclave=measurement.mrenclave.hex(), mrsigner=measurement.mrsigner.hex())
        await serve(settings, lifecycle, SimulatedQuoter(platform, measurement))

    return run_service("verifier", simulated, Settings, argv=["--settings", str(settings_file)])
