"""The code that a trust bundle believes: pins of enclaves and of trust domains, each for its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cloister.appraisal.reference import Measured, ReferenceValue
from cloister.client.bundle import TrustBundle
from cloister.errors import EvidenceRejected
from cloister.td_measurement import TdMeasurement


class Code(NamedTuple):
    """What is known of an enclave's code, in the form of reference values."""

    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int


def check_code(code: Measured | TdMeasurement, trust: TrustBundle) -> None:
    """Hold the code against the pins; a field left empty is never match-all, and pins of one technology admit no other.

    A Result has neither the KSS fields of an enclave nor XFAM and TDX module of a trust domain: of a quote our own
    appraisal checks them, of a kept receipt the verifier has.

    Raises:
        EvidenceRejected: Code that is not pinned; and any code at all where the trust bundle pins none.
    """
    if not trust.pins_code:
        raise _rejected(
            "the trust bundle pins no code, so no worker is believed; name the measurement of a build that you trust: "
            "'cloister trust accept --mrenclave', or 'mrenclave' in trust.json",
            "measurement.unpinned",
        )
    if isinstance(code, TdMeasurement):
        _check_trust_domain(code, trust)
    else:
        _check_enclave(code, trust)


def _check_trust_domain(code: TdMeasurement, trust: TrustBundle) -> None:
    if not trust.pins_trust_domains:
        raise _rejected(
            "it is a TDX trust domain, and the trust bundle names enclaves only; 'cloister trust accept "
            f"--td-measurement {code.digest.hex()}' would name it",
            "tee.other",
        )
    if trust.td_measurement is not None and code.digest.hex() not in trust.td_measurement:
        raise _rejected("its measurement is not one that the trust bundle names", "measurement.unknown")
    wanted = trust.policy().td_reference_values
    if wanted and all(value.measurement != code for value in wanted):
        raise _rejected("its code is not what the trust bundle's policy names", "measurement.unknown")


def _check_enclave(code: Measured, trust: TrustBundle) -> None:
    if not trust.pins_enclaves:
        raise _rejected("it is an SGX enclave, and the trust bundle names trust domains only", "tee.other")
    if trust.mrenclave is not None and code.mrenclave.hex() not in trust.mrenclave:
        raise _rejected("its measurement is not one that the trust bundle names", "measurement.unknown")
    wanted = trust.policy().reference_values
    if wanted and not any(value.matches(code) for value in wanted):
        raise _other_code(code, wanted)


def _other_code(code: Measured, wanted: Sequence[ReferenceValue]) -> EvidenceRejected:
    """Say that code is not what a policy wants; and where it is the wanted product, but too old, say that."""
    newest = 2**16 - 1
    for value in wanted:
        if value.matches(Code(code.mrenclave, code.mrsigner, code.isvprodid, newest)):
            return _rejected(
                f"its code has security version {code.isvsvn}, below the floor of the trust bundle's policy, "
                f"{value.minimum_isvsvn}",
                "measurement.below_floor",
            )
    return _rejected("its code is not what the trust bundle's policy names", "measurement.unknown")


def _rejected(message: str, reason: str) -> EvidenceRejected:
    return EvidenceRejected(message, reason=reason)
