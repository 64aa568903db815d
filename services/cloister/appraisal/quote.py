"""The quote grammar of Intel DCAP: SGX quotes of version 3, TDX quotes of versions 4 and 5. Bytes in, values out.

Every length is checked against what is there before it is used, every byte is accounted for, and only what we verify is
admitted: ECDSA P-256 attestation keys, Intel's quoting enclaves, and a PCK certificate chain carried inside. A quote
that names its certificate by platform id instead is refused: to fetch it would mean asking a third party about data the
attester chose. Zero bytes after the quote are counted, not signed, and left to the policy; other bytes are refused.

Layouts: SGX ECDSA quoting library API, appendix A; TDX DCAP quoting library API, appendix 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.appraisal import body
from cloister.appraisal.body import EnclaveReport, TdReport, Tee
from cloister.appraisal.steps import Step, rejected
from cloister.errors import EvidenceRejected

MAX_QUOTE_BYTES: Final = 64 * 1024
INTEL_QE_VENDOR_ID: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

_ECDSA_P256: Final = 2
_TEE_TYPES: Final = {0x00000000: Tee.SGX, 0x00000081: Tee.TDX}
_TEE_OF_VERSION: Final = {3: Tee.SGX, 4: Tee.TDX, 5: Tee.TDX}
_BODY_BYTES_OF_TYPE: Final = {
    2: body.TD_REPORT_10_BYTES,
    3: body.TD_REPORT_15_BYTES,
    4: body.TD_REPORT_15_EXTENDED_BYTES,
}
_PCK_CHAIN: Final = 5
_QE_REPORT_CERTIFICATION: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A parsed quote; nothing in it is believed yet.

    Attributes:
        signed: Header and body, the bytes that `signature` is over.
        signature: ECDSA r and s, 64 bytes, by `attestation_key`.
        attestation_key: Public point x and y, 64 bytes.
        qe_report: What the PCK signed about the quoting enclave; `qe_report_raw` are its bytes.
        pck_chain: PEM certificates as the quote carries them, leaf first.
        raw: The quote without padding.
        padding_bytes: How many zero bytes followed it.
    """

    version: int
    tee: Tee
    body: EnclaveReport | TdReport
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report: EnclaveReport
    qe_report_raw: bytes = field(repr=False)
    qe_report_signature: bytes = field(repr=False)
    qe_auth_data: bytes = field(repr=False)
    pck_chain: bytes = field(repr=False)
    raw: bytes = field(repr=False)
    padding_bytes: int


class _Cursor:
    """Takes exact numbers of bytes from the front, never more than there are."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._raw):
            raise _malformed("it ends too early")
        piece = self._raw[self.position : end]
        self.position = end
        return piece

    def integer(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def rest(self) -> bytes:
        return self._raw[self.position :]

    def finish(self) -> None:
        if self.position != len(self._raw):
            raise _malformed("a length inside it is too large for its contents")


def parse_quote(raw_quote: bytes) -> Quote:
    """Read a quote.

    Raises:
        EvidenceRejected: Step 1, with the reason `quote.malformed`, `quote.unsupported`, `quote.too_large`,
            `quote.trailing_bytes`, `qe_vendor.unknown` or `pck_chain.missing`.
    """
    if len(raw_quote) > MAX_QUOTE_BYTES:
        raise rejected(Step.QUOTE, "quote.too_large", "the quote is larger than 64 KiB")
    cursor = _Cursor(raw_quote)
    version, tee = _parse_header(cursor.take(48))
    report = _parse_body(cursor, version)
    signed = raw_quote[: cursor.position]
    signature_data = _Cursor(cursor.take(cursor.integer(4)))
    signature, attestation_key = signature_data.take(64), signature_data.take(64)
    certified = signature_data if version == 3 else _nested(signature_data)
    qe_report_raw, qe_report_signature = certified.take(body.ENCLAVE_REPORT_BYTES), certified.take(64)
    qe_auth_data = certified.take(certified.integer(2))
    pck_chain = _certification_data(certified, _PCK_CHAIN)
    if any(cursor.rest()):
        raise rejected(Step.QUOTE, "quote.trailing_bytes", "bytes follow the quote")
    return Quote(
        version=version,
        tee=tee,
        body=report,
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=body.parse_enclave_report(qe_report_raw),
        qe_report_raw=qe_report_raw,
        qe_report_signature=qe_report_signature,
        qe_auth_data=qe_auth_data,
        pck_chain=pck_chain,
        raw=raw_quote[: cursor.position],
        padding_bytes=len(cursor.rest()),
    )


def _parse_header(header: bytes) -> tuple[int, Tee]:
    version = int.from_bytes(header[0:2], "little")
    tee = _TEE_TYPES.get(int.from_bytes(header[4:8], "little"))
    if tee is None or _TEE_OF_VERSION.get(version) is not tee:
        raise _unsupported("quote version or TEE type")
    if int.from_bytes(header[2:4], "little") != _ECDSA_P256:
        raise _unsupported("attestation key type")
    # Version 3 keeps the security versions of QE and PCE here; both are taken from signed places instead.
    if version != 3 and any(header[8:12]):
        raise _malformed("reserved bytes of the header are set")
    if header[12:28] != INTEL_QE_VENDOR_ID:
        raise rejected(Step.QUOTE, "qe_vendor.unknown", "the quoting enclave is not of a vendor we know")
    return version, tee


def _parse_body(cursor: _Cursor, version: int) -> EnclaveReport | TdReport:
    if version == 3:
        return body.parse_enclave_report(cursor.take(body.ENCLAVE_REPORT_BYTES))
    if version == 4:
        return body.parse_td_report(cursor.take(body.TD_REPORT_10_BYTES))
    size = _BODY_BYTES_OF_TYPE.get(cursor.integer(2))
    if size is None:
        raise _unsupported("body type")
    if cursor.integer(4) != size:
        raise _malformed("its body has a wrong length")
    return body.parse_td_report(cursor.take(size))


def _nested(signature_data: _Cursor) -> _Cursor:
    """From version 4 on, the quoting enclave's report and certificates are wrapped once more."""
    return _Cursor(_certification_data(signature_data, _QE_REPORT_CERTIFICATION))


def _certification_data(cursor: _Cursor, wanted: int) -> bytes:
    kind = cursor.integer(2)
    data = cursor.take(cursor.integer(4))
    cursor.finish()
    if kind != wanted:
        raise rejected(Step.QUOTE, "pck_chain.missing", f"certification data is of type {kind}, not {wanted}")
    return data


def _malformed(what: str) -> EvidenceRejected:
    return rejected(Step.QUOTE, "quote.malformed", f"the quote is malformed: {what}")


def _unsupported(what: str) -> EvidenceRejected:
    return rejected(Step.QUOTE, "quote.unsupported", f"the quote's {what} is not supported")
