"""The code of a worker, as commands show it: of an enclave or of a trust domain."""

from __future__ import annotations

from cloister.ear import AttestationResult
from cloister.ear.code import plain_td


def place(result: AttestationResult) -> str:
    """What the worker runs in."""
    return "enclave" if result.td is None else "trust domain"


def code(result: AttestationResult) -> dict[str, str]:
    """For scripts; of the two measurements the one that the other technology has is empty."""
    return {
        "tee": result.tee,
        "mrenclave": result.mrenclave,
        "td_measurement": result.measurement if result.td is not None else "",
    }


def code_lines(result: AttestationResult) -> dict[str, object]:
    """For a person, in full; registers of a trust domain that are zero say nothing, and are left out."""
    if result.td is not None:
        registers = {name: value for name, value in plain_td(result.td).items() if value.strip("0")}
        return {"trust domain": result.measurement, **registers}
    return {
        "mrenclave": result.mrenclave,
        "mrsigner": f"{result.mrsigner} (product {result.isvprodid}, version {result.isvsvn})",
    }
