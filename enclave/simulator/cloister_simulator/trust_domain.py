"""The bytes of TDX quotes, versions 4 and 5, ECDSA over P-256, about a trust domain (TD).

Source: Intel TDX DCAP Quoting Library API, appendix 3: header (48 bytes), in version 5 type and length of the body, the
TD report body, then the length and the signature data: signature, attestation key, and certification data of type 6,
which holds what a quote about an SGX enclave has there: the QE report, its signature, authentication data, and the
certificates. All integers are little endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from cloister.td_measurement import TdMeasurement
from cloister_simulator.quote import QuoteParts
from cloister_simulator.recipe import TDX_MODULE_MRSIGNER, Recipe, label_register
from cloister_simulator.signature import raw_public_key, raw_signature

TEE_TYPE: Final = 0x81
SEPT_VE_DISABLE: Final = 1 << 28
DEBUG: Final = 1 << 0
MIGRATABLE: Final = 1 << 29
XFAM: Final = 0x602E7

_TDX_10, _TDX_15, _TDX_15_EXTENDED = 2, 3, 4
_MEASUREMENT_BYTES: Final = 48
_QE_REPORT_CERTIFICATION: Final = 6


def extend(register: bytes, digest: bytes) -> bytes:
    """What a runtime register holds after one more measurement (TDG.MR.RTMR.EXTEND); 48 bytes each."""
    return hashlib.sha384(register + digest).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDomain:
    """What a TD reports of itself; wholly valid unless a test changes something.

    Attributes:
        tee_tcb_svn: What it was launched under, 16 bytes; None for what the platform's collateral knows.
        tee_tcb_svn2: What it runs under now; only TDX 1.5 says.
        extended: Whether a TDX 1.5 body is the extended one.
        service_td: Hash of the service TDs that are bound to it.
    """

    tee_tcb_svn: bytes | None = None
    tee_tcb_svn2: bytes | None = None
    extended: bool = False
    mrseam: bytes = label_register("TDX module")
    mrsignerseam: bytes = TDX_MODULE_MRSIGNER
    attributes: int = SEPT_VE_DISABLE
    xfam: int = XFAM
    mrtd: bytes = label_register("firmware of trust domains")
    mrconfigid: bytes = bytes(_MEASUREMENT_BYTES)
    mrowner: bytes = bytes(_MEASUREMENT_BYTES)
    mrownerconfig: bytes = bytes(_MEASUREMENT_BYTES)
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (
        extend(bytes(_MEASUREMENT_BYTES), label_register("configuration of the firmware")),
        extend(bytes(_MEASUREMENT_BYTES), label_register("kernel")),
        extend(bytes(_MEASUREMENT_BYTES), label_register("command line and initrd")),
        bytes(_MEASUREMENT_BYTES),
    )
    service_td: bytes = bytes(_MEASUREMENT_BYTES)

    def body(self, report_data: bytes, tee_tcb_svn: bytes) -> bytes:
        """The 584, 648 or 885 bytes of its report.

        Args:
            report_data: REPORTDATA, 64 bytes.
            tee_tcb_svn: What it was launched under where it does not say itself.

        Raises:
            ValueError: A field has the wrong length.
        """
        svn = tee_tcb_svn if self.tee_tcb_svn is None else self.tee_tcb_svn
        fields = [
            (16, svn),
            (48, self.mrseam),
            (48, self.mrsignerseam),
            (8, bytes(8)),
            (8, self.attributes.to_bytes(8, "little")),
            (8, self.xfam.to_bytes(8, "little")),
            *((48, each) for each in (self.mrtd, self.mrconfigid, self.mrowner, self.mrownerconfig, *self.rtmrs)),
            (64, report_data),
        ]
        if self.tee_tcb_svn2 is not None:
            fields += [(16, self.tee_tcb_svn2), (48, self.service_td)]
        for size, value in fields:
            if len(value) != size:
                raise ValueError(f"a field of a TD report has {size} bytes, not {len(value)}")
        return b"".join(value for _, value in fields) + bytes(237 if self.extended else 0)

    @property
    def measurement(self) -> TdMeasurement:
        """What code it is about."""
        return TdMeasurement(
            mrtd=self.mrtd,
            rtmrs=self.rtmrs,
            mrconfigid=self.mrconfigid,
            mrowner=self.mrowner,
            mrownerconfig=self.mrownerconfig,
            attributes=self.attributes,
        )

    @property
    def body_type(self) -> int:
        """How quotes of version 5 call that body."""
        if self.tee_tcb_svn2 is None:
            return _TDX_10
        return _TDX_15_EXTENDED if self.extended else _TDX_15


def tee_tcb_svn(recipe: Recipe) -> bytes:
    """What TDs on the platform are launched under: the module's ISVSVN and version, then the other components."""
    return bytes([recipe.tdx_module_isvsvn, recipe.tdx_module_version, *recipe.tdx_components[2:]])


def encode_td_quote(parts: QuoteParts, recipe: Recipe, report_data: bytes, domain: TrustDomain, version: int) -> bytes:
    """Sign a quote about `domain` with the keys of `parts`, whose report of an enclave is left out."""
    parts.header.version, parts.header.tee_type = version, TEE_TYPE
    parts.header.qe_svn = parts.header.pce_svn = 0  # reserved from version 4 on
    parts.qe_report.isvprodid = recipe.td_qe_isvprodid
    body = domain.body(report_data, tee_tcb_svn(recipe))
    about = b"" if version == 4 else struct.pack("<HI", domain.body_type, len(body))
    signed = parts.header.encode() + about + body
    certified = _certified(parts)
    signature_data = b"".join(
        [
            raw_signature(parts.report_signing_key, signed),
            raw_public_key(parts.attestation_key),
            struct.pack("<HI", _QE_REPORT_CERTIFICATION, len(certified)),
            certified,
        ]
    )
    return signed + struct.pack("<I", len(signature_data)) + signature_data


def _certified(parts: QuoteParts) -> bytes:
    qe_report = parts.qe_report.encode()
    return b"".join(
        [
            qe_report,
            raw_signature(parts.qe_report_signing_key, qe_report),
            struct.pack("<H", len(parts.qe_auth_data)),
            parts.qe_auth_data,
            struct.pack("<HI", parts.certification_type, len(parts.certification_data)),
            parts.certification_data,
        ]
    )
