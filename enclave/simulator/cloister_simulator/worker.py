"""The worker with a simulated quoter in the place of its platform: otherwise the process that `cloister-worker` is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cloister.kit.lifecycle import Lifecycle, begin, run_service
from cloister.kit.log import get_logger
from cloister_simulator.measurement import DEBUG_ATTRIBUTES, Measurement, mrenclave_from_hex, mrtd_from_hex
from cloister_simulator.platform import Platform
from cloister_simulator.quoter import SimulatedQuoter, SimulatedTdQuoter
from cloister_simulator.trust_domain import DEBUG, TrustDomain

if TYPE_CHECKING:
    from cloister.evidence.quoter import Quoter
    from cloister.worker.settings import Settings

_log = get_logger()


def claimed_measurement(true: Measurement, *, mrenclave: str | None, debug: bool) -> Measurement:
    """What an enclave is to report of itself: the truth, unless a test of what must be refused wants otherwise.

    Args:
        true: What was measured.
        mrenclave: 64 hex digits to claim in place of the measured MRENCLAVE.
        debug: Claim to be a debug enclave.

    Raises:
        InvalidRequest: `mrenclave` is not 64 hex digits.
    """
    measurement = true
    if mrenclave is not None:
        measurement = replace(measurement, mrenclave=mrenclave_from_hex(mrenclave))
    if debug:
        measurement = replace(measurement, attributes=DEBUG_ATTRIBUTES)
    return measurement


def claimed_trust_domain(true: TrustDomain, *, mrtd: str | None, debug: bool) -> TrustDomain:
    """The same of a trust domain.

    Raises:
        InvalidRequest: `mrtd` is not 96 hex digits.
    """
    domain = true
    if mrtd is not None:
        domain = replace(domain, mrtd=mrtd_from_hex(mrtd))
    return replace(domain, attributes=domain.attributes | DEBUG) if debug else domain


def run_worker(settings_file: Path, platform: Platform, measurement: Measurement | TrustDomain) -> int:
    """Serve until told to stop; returns the exit code."""
    begin("worker")
    # Imported only now: they bring gRPC along, which reads the TLS environment when it is loaded.
    from cloister.worker.app import serve
    from cloister.worker.settings import Settings

    async def simulated(settings: Settings, lifecycle: Lifecycle) -> None:
        await serve(settings, lifecycle, quoter=_quoter(platform, measurement))

    return run_service("worker", simulated, Settings, argv=["--settings", str(settings_file)], in_enclave=True)


def _quoter(platform: Platform, measurement: Measurement | TrustDomain) -> Quoter:
    if isinstance(measurement, TrustDomain):
        td_measurement = measurement.measurement.digest.hex()
        _log.warning("worker.simulated", tee="tdx", td_measurement=td_measurement, mrtd=measurement.mrtd.hex())
        return SimulatedTdQuoter(platform, measurement)
    mrenclave, mrsigner = measurement.mrenclave.hex(), measurement.mrsigner.hex()
    _log.warning("worker.simulated", tee="sgx", mrenclave=mrenclave, mrsigner=mrsigner)
    return SimulatedQuoter(platform, measurement)
