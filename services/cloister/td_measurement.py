"""What code a trust domain (TD) runs, and the one digest that stands for it where an enclave has MRENCLAVE.

An SGX enclave has one measurement of all its code and configuration. A TD has several, one for each stage of its boot,
and fields that whoever launches it fills in. Policies, trust bundles and revocations name one value of 32 bytes for
either: MRENCLAVE, or SHA-256 over a label and all that follows here, in this order, each field in its full length:

    "cloister td measurement v1" and a zero byte
    MRTD, RTMR0, RTMR1, RTMR2, RTMR3                48 bytes each
    MRCONFIGID, MROWNER, MROWNERCONFIG              48 bytes each
    the TD's ATTRIBUTES                              8 bytes, as in the report (little endian)

So one bit of firmware, kernel, command line, worker image or launch configuration makes another TD. What is left out
says nothing about the code: the TDX module and security versions are judged as the platform's TCB, XFAM names processor
state that the TD may use, and report data is bound by the claims.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

REGISTER_BYTES: Final = 48

_LABEL: Final = b"cloister td measurement v1\0"
_ATTRIBUTES_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TdMeasurement:
    """The fields of a TD report that say what code it is about; 48 bytes each but `attributes`.

    Attributes:
        mrtd: The firmware, as it was put into the TD before it ran.
        rtmrs: What ran since: RTMR0 the firmware's configuration, RTMR1 boot loader and kernel, RTMR2 command line and
            initrd, RTMR3 what the guest itself measures.
        mrconfigid: Chosen by whoever launches the TD, as are `mrowner` and `mrownerconfig`.
        attributes: 64 bits of what the TD may do, and what may be done to it.

    Raises:
        ValueError: A field has another length.
    """

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    attributes: int

    def __post_init__(self) -> None:
        if len(self.rtmrs) != 4 or any(len(each) != REGISTER_BYTES for each in self._registers):
            raise ValueError("a measurement of a trust domain has 48 bytes, and there are four RTMRs")
        if not 0 <= self.attributes < 1 << 8 * _ATTRIBUTES_BYTES:
            raise ValueError("the attributes of a trust domain are 64 bits")

    @property
    def _registers(self) -> tuple[bytes, ...]:
        return (self.mrtd, *self.rtmrs, self.mrconfigid, self.mrowner, self.mrownerconfig)

    @property
    def digest(self) -> bytes:
        """The 32 bytes that stand for all of it."""
        attributes = self.attributes.to_bytes(_ATTRIBUTES_BYTES, "little")
        return hashlib.sha256(_LABEL + b"".join(self._registers) + attributes).digest()
