"""The bytes of an SGX quote, version 3, ECDSA over P-256.

Source: Intel SGX ECDSA Quote Library Reference, appendix A: header (48 bytes), report body (384), then the length and
the signature data: signature, attestation key, QE report, its signature, QE authentication data, certification data.
All integers are little endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from cloister_simulator.signature import raw_public_key, raw_signature

_HEADER = struct.Struct("<HHIHH16s20s")
_REPORT = struct.Struct("<16sI12s16s16s32s32s32s32s64sHHH42s16s64s")
_REPORT_BYTES = {
    "cpusvn": 16,
    "extended_product_id": 16,
    "attributes": 16,
    "mrenclave": 32,
    "mrsigner": 32,
    "config_id": 64,
    "family_id": 16,
    "report_data": 64,
}


@dataclass(slots=True, kw_only=True)
class Header:
    """The first 48 bytes. In version 3 the field here called `tee_type` is reserved and zero."""

    version: int
    attestation_key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes

    def encode(self) -> bytes:
        """The 48 bytes."""
        return _HEADER.pack(
            self.version,
            self.attestation_key_type,
            self.tee_type,
            self.qe_svn,
            self.pce_svn,
            self.qe_vendor_id,
            self.user_data,
        )


@dataclass(slots=True, kw_only=True)
class Report:
    """An SGX report body, of an application enclave or of the quoting enclave."""

    report_data: bytes
    mrenclave: bytes
    mrsigner: bytes
    attributes: bytes
    isvprodid: int
    isvsvn: int
    cpusvn: bytes
    misc_select: int = 0
    config_id: bytes = bytes(64)
    config_svn: int = 0
    family_id: bytes = bytes(16)
    extended_product_id: bytes = bytes(16)

    def encode(self) -> bytes:
        """The 384 bytes.

        Raises:
            ValueError: A field has the wrong length; `struct` would pad or cut it without a word.
        """
        for name, size in _REPORT_BYTES.items():
            if len(getattr(self, name)) != size:
                raise ValueError(f"{name} has {size} bytes in a report, not {len(getattr(self, name))}")
        return _REPORT.pack(
            self.cpusvn,
            self.misc_select,
            b"",
            self.extended_product_id,
            self.attributes,
            self.mrenclave,
            b"",
            self.mrsigner,
            b"",
            self.config_id,
            self.isvprodid,
            self.isvsvn,
            self.config_svn,
            b"",
            self.family_id,
            self.report_data,
        )


@dataclass(slots=True, kw_only=True)
class QuoteParts:
    """A quote before it is signed. What is changed here is covered by the signatures; keys are hidden in repr."""

    header: Header
    report: Report
    qe_report: Report
    qe_auth_data: bytes
    certification_type: int
    certification_data: bytes
    attestation_key: ec.EllipticCurvePrivateKey  # whose public half is in the quote
    report_signing_key: ec.EllipticCurvePrivateKey  # signs header and report: the attestation key
    qe_report_signing_key: ec.EllipticCurvePrivateKey  # signs the QE report: the PCK

    def __repr__(self) -> str:
        return f"QuoteParts(version={self.header.version}, mrenclave={self.report.mrenclave.hex()})"


def encode_quote(parts: QuoteParts) -> bytes:
    """Sign `parts` and lay them out."""
    signed = parts.header.encode() + parts.report.encode()
    qe_report = parts.qe_report.encode()
    signature_data = b"".join(
        [
            raw_signature(parts.report_signing_key, signed),
            raw_public_key(parts.attestation_key),
            qe_report,
            raw_signature(parts.qe_report_signing_key, qe_report),
            struct.pack("<H", len(parts.qe_auth_data)),
            parts.qe_auth_data,
            struct.pack("<HI", parts.certification_type, len(parts.certification_data)),
            parts.certification_data,
        ]
    )
    return signed + struct.pack("<I", len(signature_data)) + signature_data
