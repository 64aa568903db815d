"""What a quote is about: the report of an SGX enclave, or of a TDX trust domain (TD).

Layouts: SGX REPORT body of the Intel SDM volume 3D table 38-21; TD report bodies of the TDX DCAP quoting library API,
appendix 3 (TDX 1.0, 1.5, and the extended 1.5 body of quote version 5). Bytes that these call reserved must be zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Final

from cloister.appraisal.steps import Step, rejected
from cloister.td_measurement import TdMeasurement

ENCLAVE_REPORT_BYTES: Final = 384
TD_REPORT_10_BYTES: Final = 584
TD_REPORT_15_BYTES: Final = 648
TD_REPORT_15_EXTENDED_BYTES: Final = 885


class Tee(StrEnum):
    """The technology that isolates what is attested."""

    SGX = "sgx"
    TDX = "tdx"


class EnclaveFlags(IntFlag):
    """ATTRIBUTES.FLAGS of an enclave (SDM volume 3D, table 38-3), as far as we name them."""

    INIT = 1 << 0
    DEBUG = 1 << 1
    MODE64BIT = 1 << 2
    PROVISION_KEY = 1 << 4
    EINITTOKEN_KEY = 1 << 5
    KSS = 1 << 7


class TdFlags(IntFlag):
    """ATTRIBUTES of a TD (TDX module base specification), as far as we name them."""

    DEBUG = 1 << 0
    ICSSD = 1 << 16
    LASS = 1 << 27
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    PERFMON = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
    """An SGX report body; integers are little endian on the wire.

    Attributes:
        attributes: FLAGS and XFRM, 16 bytes.
        cet_attributes: Which control-flow enforcement it has; zero in an enclave without.
    """

    cpu_svn: bytes
    miscselect: int
    ext_prod_id: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    config_id: bytes
    isvprodid: int
    isvsvn: int
    config_svn: int
    family_id: bytes
    report_data: bytes
    cet_attributes: int = 0

    @property
    def flags(self) -> int:
        """ATTRIBUTES.FLAGS; compare with `EnclaveFlags`."""
        return int.from_bytes(self.attributes[:8], "little")

    @property
    def xfrm(self) -> int:
        """ATTRIBUTES.XFRM: the processor state the enclave may use, as in XCR0."""
        return int.from_bytes(self.attributes[8:], "little")

    @property
    def debug(self) -> bool:
        """Whether its memory can be read from outside."""
        return bool(self.flags & EnclaveFlags.DEBUG)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A TD report body. What only TDX 1.5 has is None for 1.0.

    Attributes:
        service_td_hashes: Every field that is non-zero when a service TD was bound to this one.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    service_td_hashes: tuple[bytes, ...] = ()

    @property
    def measurement(self) -> TdMeasurement:
        """What code it is about."""
        return TdMeasurement(
            mrtd=self.mrtd,
            rtmrs=self.rtmrs,
            mrconfigid=self.mrconfigid,
            mrowner=self.mrowner,
            mrownerconfig=self.mrownerconfig,
            attributes=self.flags,
        )

    @property
    def flags(self) -> int:
        """TD attributes; compare with `TdFlags`."""
        return int.from_bytes(self.td_attributes, "little")

    @property
    def debug(self) -> bool:
        """Whether its memory can be read from outside."""
        return bool(self.flags & TdFlags.DEBUG)


def parse_enclave_report(raw: bytes) -> EnclaveReport:
    """Read 384 bytes that are an SGX report body.

    Raises:
        EvidenceRejected: Reserved bytes are set (step 1).
    """
    if any(raw[21:32]) or any(raw[96:128]) or any(raw[160:192]) or any(raw[262:304]):
        raise rejected(Step.QUOTE, "quote.malformed", "reserved bytes of the enclave report are set")
    return EnclaveReport(
        cpu_svn=raw[0:16],
        miscselect=int.from_bytes(raw[16:20], "little"),
        ext_prod_id=raw[32:48],
        attributes=raw[48:64],
        mrenclave=raw[64:96],
        mrsigner=raw[128:160],
        config_id=raw[192:256],
        isvprodid=int.from_bytes(raw[256:258], "little"),
        isvsvn=int.from_bytes(raw[258:260], "little"),
        config_svn=int.from_bytes(raw[260:262], "little"),
        family_id=raw[304:320],
        report_data=raw[320:384],
        cet_attributes=raw[20],
    )


def parse_td_report(raw: bytes) -> TdReport:
    """Read a TD report body of 584, 648 or 885 bytes; the caller has checked that it is one of these."""
    service_td_hashes: tuple[bytes, ...] = ()
    if len(raw) >= TD_REPORT_15_BYTES:
        service_td_hashes = (raw[600:648],)
    if len(raw) == TD_REPORT_15_EXTENDED_BYTES:
        # Hash and attributes of the service TD at first, and of the one bound now.
        service_td_hashes += (raw[729:777], raw[777:785], raw[829:877], raw[877:885])
    return TdReport(
        tee_tcb_svn=raw[0:16],
        mrseam=raw[16:64],
        mrsignerseam=raw[64:112],
        seam_attributes=raw[112:120],
        td_attributes=raw[120:128],
        xfam=int.from_bytes(raw[128:136], "little"),
        mrtd=raw[136:184],
        mrconfigid=raw[184:232],
        mrowner=raw[232:280],
        mrownerconfig=raw[280:328],
        rtmrs=(raw[328:376], raw[376:424], raw[424:472], raw[472:520]),
        report_data=raw[520:584],
        tee_tcb_svn2=raw[584:600] if len(raw) >= TD_REPORT_15_BYTES else None,
        service_td_hashes=service_td_hashes,
    )
