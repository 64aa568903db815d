"""The appraisal policy: which genuine platforms and which code are believed.

A policy can only choose among what is sane: debug enclaves, enclaves that may ask for provisioning or launch keys,
migratable TDs and revoked platforms are refused whatever it says, and a field left empty never means "anything". Trust
vector values are those of AR4SI (draft-ietf-rats-ar4si, section 2.3).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time
from functools import cached_property
from typing import Final

from cloister.appraisal.body import EnclaveFlags, EnclaveReport, TdReport, Tee
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.grace import Grace
from cloister.appraisal.policy_file import read_policy
from cloister.appraisal.reference import Kss, PlatformRule, ReferenceValue, TdReferenceValue, believable_td_flags
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.verify import VerifiedQuote
from cloister.errors import EvidenceRejected, InvalidRequest

NO_CLAIM: Final = 0
AFFIRMING: Final = 2
APPROVED_AT_LOAD: Final = 3
UNSAFE: Final = 32
CONTRAINDICATED: Final = 96

# Whole values, not masks: whatever a bit means that has no name here, it is not wanted. KSS is judged with its fields.
_ORDINARY: Final = int(EnclaveFlags.INIT | EnclaveFlags.MODE64BIT)
_ALLOWED_FLAGS: Final = (_ORDINARY, _ORDINARY | int(EnclaveFlags.KSS))
# x87 and SSE state must be there; AVX, MPX, AVX-512, PKRU and AMX state may be: all that Gramine knows to ask for.
_REQUIRED_XFRM: Final = 0x3
_ALLOWED_XFRM: Final = 0x3 | 0x4 | 0x18 | 0xE0 | 0x200 | 0x60000
# EXINFO: the enclave learns the address of its page faults. It tells the outside nothing.
_ALLOWED_MISCSELECT: Final = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy concluded, as AR4SI trust vector values."""

    hardware: int
    executables: int
    configuration: int


@dataclass(frozen=True, kw_only=True)
class Policy:
    """An appraisal policy.

    Attributes:
        policy_id: Name, for people.
        version: Grows with every change; 0 for a policy that was never given one.
        accepted_statuses: TCB statuses that are good enough; never `Revoked`.
        grace: Statuses that are good enough for a while.
        accepted_advisories: Advisories that are lived with; any other one is refused, whatever the status and grace.
        minimum_evaluation: Least TCB evaluation data number of the collateral.
        minimum_tcb_date: What Intel had disclosed by the beginning of that day, UTC, must be accounted for.
        reference_values: Enclaves that are wanted, as `td_reference_values` are trust domains; with neither, no claim
            is made about code, and with one of them, what only the other could name is refused.
        allow_zero_padding: Whether zero bytes may follow the quote.
    """

    policy_id: str = "default"
    version: int = 0
    accepted_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED})
    grace: tuple[Grace, ...] = ()
    accepted_advisories: frozenset[str] = frozenset({"INTEL-SA-00334", "INTEL-SA-00615"})
    minimum_evaluation: int = 0
    minimum_tcb_date: date | None = None
    reference_values: tuple[ReferenceValue, ...] = ()
    td_reference_values: tuple[TdReferenceValue, ...] = ()
    platforms: PlatformRule = field(default_factory=PlatformRule)
    allow_zero_padding: bool = False

    def __post_init__(self) -> None:
        if not self.policy_id or not self.accepted_statuses or TcbStatus.REVOKED in self.accepted_statuses:
            raise InvalidRequest(
                "policy_id or accepted_statuses is empty, or Revoked is accepted", reason="policy.malformed"
            )
        late = [grace.status for grace in self.grace]
        if len(set(late)) != len(late) or not self.accepted_statuses.isdisjoint(late):
            raise InvalidRequest(
                "grace_days is about a status that accepted_statuses accepts for good, or about one twice",
                reason="policy.malformed",
            )

    @classmethod
    def default(cls) -> Policy:
        """Return the policy that holds where no other is given; it makes no claim about code."""
        return cls()

    @classmethod
    def from_toml(cls, raw: bytes) -> Policy:
        """Read a policy; what the file leaves out is as in the default policy (`policy_file.py` for its form).

        Raises:
            InvalidRequest: Reason `policy.malformed`; the message names the key.
        """
        return cls(**read_policy(raw))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over every field in one canonical form, so equal policies have equal digests."""
        return hashlib.sha256(json.dumps(asdict(self), default=_canonical, sort_keys=True).encode()).digest()

    @property
    def pins_code(self) -> bool:
        """Whether it names the enclaves or trust domains that it accepts."""
        return bool(self.reference_values or self.td_reference_values)

    @property
    def tee(self) -> Tee | None:
        """Technology that a member of a mesh must be of: an enclave where the policy names no TD; None for either.

        So a mesh has no trust domain in it that nobody asked for, and where some are asked for, reference values say
        which enclaves and which TDs are.
        """
        return None if self.td_reference_values else Tee.SGX

    def evaluate(self, verified: VerifiedQuote, now: datetime) -> Verdict:
        """Decide whether a genuine quote is of a platform and of code that this policy wants.

        Args:
            verified: The quote, with what collateral says of its platform.
            now: Aware; what grace is counted to.

        Raises:
            EvidenceRejected: Step 7.
        """
        report = verified.quote.body
        if verified.quote.padding_bytes and not self.allow_zero_padding:
            raise rejected(Step.POLICY, "quote.padded", "zero bytes follow the quote")
        if isinstance(report, EnclaveReport):
            _check_enclave(report)
        else:
            _check_td(report)
        self._check_tcb(verified, now)
        platform = verified.platform
        self.platforms.check(platform.ppid, platform.platform_instance_id)
        executables, configuration = self._check_code(report)
        return Verdict(hardware=_hardware(verified), executables=executables, configuration=configuration)

    def _check_tcb(self, verified: VerifiedQuote, now: datetime) -> None:
        tcb = verified.tcb
        if tcb.status not in self.accepted_statuses:
            grace = next((one for one in self.grace if one.status is tcb.status), None)
            if grace is None:
                raise rejected(Step.POLICY, "tcb_status.refused", f"TCB status {tcb.status} is not accepted")
            grace.check(tcb, now)
        if unknown := set(tcb.advisory_ids) - self.accepted_advisories:
            raise rejected(Step.POLICY, "advisory.refused", f"advisory {min(unknown)} is not accepted")
        if verified.evaluation < self.minimum_evaluation:
            raise rejected(Step.POLICY, "evaluation.outdated", "the collateral's evaluation number is too low")
        least = self.minimum_tcb_date
        if least is not None and tcb.patched_to < datetime.combine(least, time.min, UTC):
            raise rejected(Step.POLICY, "tcb_date.outdated", f"the platform's fixes are older than {least}")

    def _check_code(self, report: EnclaveReport | TdReport) -> tuple[int, int]:
        """Return the trust vector's `executables` and `configuration`."""
        return self._check_td_code(report) if isinstance(report, TdReport) else self._check_enclave_code(report)

    def _check_enclave_code(self, report: EnclaveReport) -> tuple[int, int]:
        about = [value for value in self.reference_values if value.matches(report)]
        if self.pins_code and not about:
            raise rejected(Step.POLICY, "measurement.refused", "no reference value fits the enclave")
        # Without a reference value nothing pins the KSS fields, so none may be in use.
        matched = [value for value in about if value.kss.matches(report)]
        if not matched and (about or not Kss().matches(report)):
            raise rejected(Step.POLICY, "kss.unpinned", "the enclave's KSS fields are not those the policy pins")
        if not matched:
            return NO_CLAIM, NO_CLAIM
        # Under Gramine the manifest is part of MRENCLAVE, and with it the whole configuration.
        pinned = any(value.mrenclave is not None for value in matched)
        return (AFFIRMING, AFFIRMING) if pinned else (APPROVED_AT_LOAD, NO_CLAIM)

    def _check_td_code(self, report: TdReport) -> tuple[int, int]:
        """A trust domain's measurements are those of its boot."""
        about = [value for value in self.td_reference_values if value.matches(report)]
        if self.pins_code and not about:
            raise rejected(Step.POLICY, "measurement.refused", "no reference value fits the trust domain")
        if about and not any(value.configured(report) for value in about):
            raise rejected(Step.POLICY, "td_configuration.unpinned", "the trust domain was launched in another way")
        return (APPROVED_AT_LOAD, NO_CLAIM) if about else (NO_CLAIM, NO_CLAIM)


def _check_enclave(report: EnclaveReport) -> None:
    if report.debug:
        raise rejected(Step.POLICY, "enclave.debug", "a debug enclave keeps no secrets")
    if report.flags not in _ALLOWED_FLAGS:
        raise _attributes("the enclave's attributes are not those of an ordinary initialised enclave")
    if report.xfrm & ~_ALLOWED_XFRM or report.xfrm & _REQUIRED_XFRM != _REQUIRED_XFRM:
        raise _attributes("the enclave may use processor state that nobody here knows")
    if report.miscselect & ~_ALLOWED_MISCSELECT:
        raise _attributes("the enclave's MISCSELECT has unknown bits")
    if report.cet_attributes:
        raise _attributes("the enclave uses control-flow enforcement, which nothing here runs with")


def _check_td(report: TdReport) -> None:
    if report.debug:
        raise rejected(Step.POLICY, "enclave.debug", "a debug trust domain keeps no secrets")
    if not believable_td_flags(report.flags):
        raise _attributes("the trust domain's attributes lack SEPT_VE_DISABLE, or have one that nobody should want")
    # Whatever a policy says: the second verifier refuses every one of them too, so no pin could let one in.
    if any(any(value) for value in report.service_td_hashes):
        raise _attributes("a service trust domain has a say over this one")


def _attributes(message: str) -> EvidenceRejected:
    return rejected(Step.POLICY, "attributes.refused", message)


def _hardware(verified: VerifiedQuote) -> int:
    if verified.anchor.simulated:
        return CONTRAINDICATED
    genuine = verified.tcb.status in (TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED)
    return AFFIRMING if genuine else UNSAFE


def _canonical(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(item.hex() if isinstance(item, bytes) else item for item in value)
    raise TypeError(f"a policy holds no {type(value).__name__}")
