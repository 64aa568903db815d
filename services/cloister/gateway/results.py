"""What an Attestation Result says, for an operator to look at. Nothing is verified here, and nothing decided by it."""

from __future__ import annotations

from typing import NamedTuple

from cloister import ear
from cloister.errors import EvidenceRejected


class Shown(NamedTuple):
    """What is shown of a Result; all of it empty where it says nothing readable."""

    tee: str = ""
    mrenclave: str = ""
    td_measurement: str = ""
    tcb_status: str = ""


def displayed(attestation_result: str) -> Shown:
    """What the token says of technology, code and platform."""
    try:
        result = ear.unverified(attestation_result)
    except EvidenceRejected:
        return Shown()
    td_measurement = result.measurement if result.td is not None else ""
    return Shown(result.tee, result.mrenclave, td_measurement, result.tcb_status)
