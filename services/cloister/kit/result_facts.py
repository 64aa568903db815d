"""What a record tells of the code that an Attestation Result is about, in every service's record by the same names."""

from __future__ import annotations

from cloister.ear import AttestationResult
from cloister.ear.code import plain_td
from cloister.td_measurement import TdMeasurement


def code_facts(result: AttestationResult) -> dict[str, str | int]:
    """The technology, and what an enclave or a trust domain is known by."""
    if result.td is not None:
        return {"tee": result.tee, **td_facts(result.td)}
    return {
        "tee": result.tee,
        "mrenclave": result.mrenclave,
        "mrsigner": result.mrsigner,
        "isvprodid": result.isvprodid,
        "isvsvn": result.isvsvn,
    }


def td_facts(td: TdMeasurement) -> dict[str, str]:
    """What a trust domain is known by: the digest that policies name, and what it is made of."""
    return {"td_measurement": td.digest.hex(), **plain_td(td)}
