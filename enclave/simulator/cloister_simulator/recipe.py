"""Everything about a simulated platform that a test may want to break, with values that make it wholly valid.

A `Recipe` is plain mutable data: build it right, change one field, and see which check objects. Fields whose default is
`None` follow another field until they are set. Unknown names raise `AttributeError`, so a misspelt break is not silent.
Words are those of Intel SGX DCAP: the PCK certificate specification, the TCB info v3 and QE identity v2 JSON of the
provisioning certification service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Role = Literal["root", "platform_ca", "tcb_signing", "pck"]

ATTRIBUTE_INIT = 1 << 0
ATTRIBUTE_DEBUG = 1 << 1
ATTRIBUTE_MODE64BIT = 1 << 2
ATTRIBUTE_PROVISION_KEY = 1 << 4
ATTRIBUTE_EINITTOKEN_KEY = 1 << 5
ATTRIBUTE_KSS = 1 << 7
XFRM_AVX512 = 0xE7

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
CERTIFICATES_FROM = datetime(2020, 1, 1, tzinfo=UTC)
CERTIFICATES_UNTIL = datetime(2049, 12, 31, tzinfo=UTC)


def attributes(flags: int, xfrm: int = XFRM_AVX512) -> bytes:
    """The 16-byte ATTRIBUTES field of an SGX report: flags, then XFRM, little endian."""
    return flags.to_bytes(8, "little") + xfrm.to_bytes(8, "little")


def label_digest(label: str) -> bytes:
    """A measurement of nothing: 32 bytes that stand for `label`, the same on every machine."""
    return hashlib.sha256(f"cloister simulator: {label}".encode()).digest()


def label_register(label: str) -> bytes:
    """The same for the 48 bytes of a trust domain's measurements."""
    return hashlib.sha384(f"cloister simulator: {label}".encode()).digest()


ENCLAVE_ATTRIBUTES = attributes(ATTRIBUTE_INIT | ATTRIBUTE_MODE64BIT)
QE_ATTRIBUTES = attributes(ATTRIBUTE_INIT | ATTRIBUTE_MODE64BIT | ATTRIBUTE_PROVISION_KEY)
QE_MRSIGNER = label_digest("signer of the quoting enclave")
TDX_MODULE_MRSIGNER = label_register("signer of the TDX module")


@dataclass(frozen=True, slots=True)
class Window:
    """When a signed statement was issued and when the next one is due (aware UTC, whole seconds)."""

    issued_at: datetime
    next_update: datetime


@dataclass(slots=True, kw_only=True)
class Recipe:
    """What the platform is, what its maker says of it, and what its enclaves report."""

    window: Window

    # The processor, as its PCK certificate describes it
    ppid: bytes
    platform_instance_id: bytes
    fmspc: bytes = bytes.fromhex("c10157e20000")
    pceid: bytes = bytes(2)
    pcesvn: int = 13
    tcb_components: Sequence[int] = (12, 12, 3, 3, 255, 255, 1, *(0,) * 9)
    cpusvn: bytes | None = None  # None: the TCB components, one byte each
    sgx_type: int = 1
    dynamic_platform: bool = False
    cached_keys: bool = False
    smt_enabled: bool = False

    # The certificates
    root_subject: str = "Intel SGX Root CA"
    platform_ca_subject: str = "Intel SGX PCK Platform CA"
    tcb_signing_subject: str = "Intel SGX TCB Signing"
    pck_subject: str = "Intel SGX PCK Certificate"
    platform_ca_is_ca: bool = True
    platform_ca_not_after: datetime = CERTIFICATES_UNTIL
    tcb_signing_not_after: datetime = CERTIFICATES_UNTIL
    pck_not_after: datetime = CERTIFICATES_UNTIL
    pck_signer: Role = "platform_ca"

    # The revocation lists
    revoked: set[Role] = field(default_factory=set)
    root_crl_window: Window | None = None
    root_crl_signer: Role = "root"
    pck_crl_window: Window | None = None
    pck_crl_signer: Role = "platform_ca"

    # The TCB info: `tcb_status` belongs to the level this platform is at
    tcb_status: str = "UpToDate"
    advisory_ids: Sequence[str] = ()
    tcb_evaluation: int = 21
    tcb_date: str = "2026-08-12T00:00:00Z"
    tcb_info_window: Window | None = None
    tcb_info_version: int = 3
    tcb_info_id: str = "SGX"
    tcb_info_fmspc: bytes | None = None
    tcb_info_pceid: bytes | None = None
    tcb_info_type: int = 0
    tcb_info_components: Sequence[int] | None = None  # None: this platform's; higher: no level matches
    tcb_info_pcesvn: int | None = None
    tcb_info_signer: Role = "tcb_signing"

    # What TDX adds to both: the module that launches trust domains, and a quoting enclave of another product
    tdx_components: Sequence[int] = (0, 0, 7, *(0,) * 13)  # the first two are the module's, which has levels of its own
    tdx_module_version: int = 1
    tdx_module_isvsvn: int = 5
    tdx_module_mrsigner: bytes = TDX_MODULE_MRSIGNER
    tdx_module_status: str = "UpToDate"
    tdx_module_advisory_ids: Sequence[str] = ()
    td_qe_isvprodid: int = 2
    td_quote_version: int = 4

    # The quoting enclave: what its identity document says it should be ...
    qe_identity_window: Window | None = None
    qe_identity_evaluation: int | None = None  # None: the same as the TCB info
    qe_identity_mrsigner: bytes = QE_MRSIGNER
    qe_identity_isvprodid: int = 1
    qe_identity_signer: Role = "tcb_signing"
    qe_status: str = "UpToDate"
    qe_advisory_ids: Sequence[str] = ()

    # ... and what its report says it is. ISVSVN 8 is the level with `qe_status`, 5 is OutOfDate, 1 is Revoked
    qe_mrenclave: bytes = label_digest("quoting enclave")
    qe_mrsigner: bytes = QE_MRSIGNER
    qe_isvprodid: int = 1
    qe_isvsvn: int = 8
    qe_attributes: bytes = QE_ATTRIBUTES
    qe_auth_data: bytes = bytes(range(32))
    qe_report_data_padding: bytes = bytes(32)
    qe_report_signer: Role = "pck"

    # The quote header
    quote_version: int = 3
    attestation_key_type: int = 2
    tee_type: int = 0
    qe_vendor_id: bytes = INTEL_QE_VENDOR_ID
    user_data: bytes = bytes(20)
    certification_type: int = 5

    # The enclave a quote is about, unless the caller of `Platform.quote` says otherwise
    mrenclave: bytes = label_digest("an enclave")
    mrsigner: bytes = label_digest("signer of enclaves")
    isvprodid: int = 1
    isvsvn: int = 1
    attributes: bytes = ENCLAVE_ATTRIBUTES
    debug: bool = False
    misc_select: int = 0
    config_id: bytes = bytes(64)
    config_svn: int = 0
    family_id: bytes = bytes(16)
    extended_product_id: bytes = bytes(16)
