"""Reference values: the code and the platforms an appraisal policy wants (RFC 9334 section 8.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from cloister.appraisal.body import EnclaveFlags, EnclaveReport, TdFlags, TdReport
from cloister.appraisal.steps import Step, rejected
from cloister.errors import InvalidRequest
from cloister.td_measurement import TdMeasurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Kss:
    """The four key separation and sharing fields of an enclave; whoever launches it chooses CONFIGID and CONFIGSVN."""

    config_id: bytes = bytes(64)
    config_svn: int = 0
    ext_prod_id: bytes = bytes(16)
    family_id: bytes = bytes(16)

    @property
    def used(self) -> bool:
        """Whether an enclave with these values uses KSS at all."""
        return any(self.config_id) or self.config_svn > 0 or any(self.ext_prod_id) or any(self.family_id)

    def matches(self, report: EnclaveReport) -> bool:
        """Whether the report has exactly these values, and the KSS attribute when they are used."""
        return self == Kss(
            config_id=report.config_id,
            config_svn=report.config_svn,
            ext_prod_id=report.ext_prod_id,
            family_id=report.family_id,
        ) and self.used == bool(report.flags & EnclaveFlags.KSS)


class Measured(Protocol):
    """What reference values are about; of a quote, or of an Attestation Result that was found genuine."""

    @property
    def mrenclave(self) -> bytes:
        """32 bytes, as is `mrsigner`."""

    @property
    def mrsigner(self) -> bytes:
        """See `mrenclave`."""

    @property
    def isvprodid(self) -> int:
        """The signer's number for the product."""

    @property
    def isvsvn(self) -> int:
        """The signer's number for its security version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValue:
    """One enclave, or the enclaves of one signer, that a policy wants.

    Either `mrenclave`, or all of `mrsigner`, `isvprodid` and `minimum_isvsvn`, or both. KSS fields are pinned by being
    here: what is left out must be zero in the report.

    Raises:
        InvalidRequest: Incomplete, or all zero.
    """

    mrenclave: bytes | None = None
    mrsigner: bytes | None = None
    isvprodid: int | None = None
    minimum_isvsvn: int | None = None
    kss: Kss = field(default_factory=Kss)

    def __post_init__(self) -> None:
        signer = (self.mrsigner, self.isvprodid, self.minimum_isvsvn)
        if None in signer and (self.mrenclave is None or signer != (None, None, None)):
            raise InvalidRequest(
                "reference_values needs mrenclave, or mrsigner with isvprodid and minimum_isvsvn, or both",
                reason="policy.malformed",
            )
        if self.mrenclave == bytes(32) or self.mrsigner == bytes(32):
            raise InvalidRequest("reference_values holds a measurement that is all zero", reason="policy.malformed")

    def matches(self, enclave: Measured) -> bool:
        """Whether this is about that enclave, KSS aside."""
        return (
            self.mrenclave in (None, enclave.mrenclave)
            and self.mrsigner in (None, enclave.mrsigner)
            and self.isvprodid in (None, enclave.isvprodid)
            and (self.minimum_isvsvn is None or enclave.isvsvn >= self.minimum_isvsvn)
        )


_MEASUREMENT_BYTES: Final = 48
# What a TD may use for itself: protection keys, key locker, counters, and defences against what runs beside it.
_TD_FEATURES: Final = int(TdFlags.ICSSD | TdFlags.LASS | TdFlags.PKS | TdFlags.KL | TdFlags.PERFMON)


def believable_td_flags(flags: int) -> bool:
    """Whether any policy may accept a trust domain with these attributes.

    Without SEPT_VE_DISABLE the host can inject #VE into the TD; DEBUG and MIGRATABLE let others in.
    """
    return flags & ~_TD_FEATURES == TdFlags.SEPT_VE_DISABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReferenceValue:
    """One trust domain that a policy wants.

    What is left out must be zero in the report (and the attributes SEPT_VE_DISABLE alone), so that a field is used only
    where somebody pinned it: RTMR0 to RTMR2 tell firmware, kernel and command line apart, the owner's three fields are
    chosen by whoever launches. The three that are None when left out are not compared: Intel's TCB info judges the TDX
    module (`mrseam`, `mrsignerseam`) in step 6, and XFAM gives the TD processor state, and nobody a look inside.

    Attributes:
        mrtd: 48 bytes, as all measurements here; never all zero.
        attributes: SEPT_VE_DISABLE with any of ICSSD, LASS, PKS, KL and PERFMON; see `TdFlags`.

    Raises:
        InvalidRequest: `mrtd` is all zero, or the attributes are none that can be believed.
    """

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(_MEASUREMENT_BYTES),) * 4
    mrconfigid: bytes = bytes(_MEASUREMENT_BYTES)
    mrowner: bytes = bytes(_MEASUREMENT_BYTES)
    mrownerconfig: bytes = bytes(_MEASUREMENT_BYTES)
    attributes: int = int(TdFlags.SEPT_VE_DISABLE)
    xfam: int | None = None
    mrseam: bytes | None = None
    mrsignerseam: bytes | None = None

    def __post_init__(self) -> None:
        if self.mrtd == bytes(_MEASUREMENT_BYTES):
            raise InvalidRequest("td_reference_values holds an mrtd that is all zero", reason="policy.malformed")
        if not believable_td_flags(self.attributes):
            raise InvalidRequest("td_reference_values holds attributes of no believed TD", reason="policy.malformed")

    @property
    def measurement(self) -> TdMeasurement:
        """What such a trust domain measures as; its digest is what release policies and trust bundles name."""
        return TdMeasurement(
            mrtd=self.mrtd,
            rtmrs=self.rtmrs,
            mrconfigid=self.mrconfigid,
            mrowner=self.mrowner,
            mrownerconfig=self.mrownerconfig,
            attributes=self.attributes,
        )

    def matches(self, report: TdReport) -> bool:
        """Whether this is about that trust domain: the same firmware, and the same code in it."""
        return (self.mrtd, self.rtmrs) == (report.mrtd, report.rtmrs)

    def configured(self, report: TdReport) -> bool:
        """Whether whoever launched it chose what is pinned here."""
        launched = (report.mrconfigid, report.mrowner, report.mrownerconfig, report.flags)
        return (
            (self.mrconfigid, self.mrowner, self.mrownerconfig, self.attributes) == launched
            and self.xfam in (None, report.xfam)
            and self.mrseam in (None, report.mrseam)
            and self.mrsignerseam in (None, report.mrsignerseam)
        )


class PlatformMode(StrEnum):
    """Whether platforms must be on the allow-list. The deny-list holds either way."""

    OFF = "off"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRule:
    """Which platforms, by PPID or platform instance id (16 bytes each). Enforcing an empty list allows none."""

    mode: PlatformMode = PlatformMode.OFF
    allow: frozenset[bytes] = frozenset()
    deny: frozenset[bytes] = frozenset()

    def check(self, *ids: bytes | None) -> None:
        """Check a platform by the ids it has.

        Raises:
            EvidenceRejected: Step 7, reason `platform.denied` or `platform.not_allowed`.
        """
        if not self.deny.isdisjoint(ids):
            raise rejected(Step.POLICY, "platform.denied", "the platform is on the policy's deny-list")
        if self.mode is PlatformMode.ENFORCE and self.allow.isdisjoint(ids):
            raise rejected(Step.POLICY, "platform.not_allowed", "the platform is not on the policy's allow-list")
