"""The fields of a TDX quote, versions 4 and 5, that an SGX quote has not; layouts as in `appraisal/body.py`."""

from __future__ import annotations

from functools import partial
from typing import Final

from cloister.appraisal.body import TdFlags
from cloister.appraisal.steps import Step
from cloister.client.quote_layout import HEADER
from cloister.client.quote_row import Row, binding, flags_of, nothing, number, reserved, state, zero

TD_HEADER: Final = (*HEADER[:3], reserved(2), reserved(2), *HEADER[5:])
TD_BODY_TYPE: Final = (
    Row(
        "Body type",
        2,
        lambda raw: {2: "TDX 1.0", 3: "TDX 1.5", 4: "TDX 1.5, extended"}.get(
            int.from_bytes(raw, "little"), number(raw)
        ),
        "Which form of report follows.",
        "Must be one that is known.",
        Step.QUOTE,
    ),
    Row("Length of body", 4, number, "How many bytes the report has.", "Must be what its type has.", Step.QUOTE),
)
_LAUNCHED: Final = "Must be as the policy, or the measurement in the trust bundle, pins it: zero where nothing does."
_MEASURED: Final = "Must be as the policy, or the measurement in the trust bundle, pins it."


def _register(name: str, meaning: str, check: str = _MEASURED) -> Row:
    return Row(name, 48, zero if check is _LAUNCHED else nothing, meaning, check, Step.POLICY)


TD_REPORT: Final = (
    Row(
        "TEE_TCB_SVN",
        16,
        nothing,
        "Security versions of the TDX module that launched the trust domain, and of what is beneath it.",
        "Looked up in Intel's TCB information for TDX.",
        Step.TCB,
    ),
    Row("MRSEAM", 48, nothing, "Measurement of the TDX module.", "Compared where a policy pins it.", Step.POLICY),
    Row("MRSIGNERSEAM", 48, zero, "Who signed the TDX module.", "Must be as Intel's TCB information says.", Step.TCB),
    Row("SEAM attributes", 8, zero, "Attributes of the TDX module; none is defined yet.", "Must be zero.", Step.TCB),
    Row(
        "TD attributes",
        8,
        partial(flags_of, TdFlags),
        "What the trust domain is: DEBUG (its memory can be read from outside), MIGRATABLE (it can be moved to another "
        "machine), SEPT_VE_DISABLE (the host cannot make its memory fault), and what it may use.",
        "SEPT_VE_DISABLE must be set. DEBUG and MIGRATABLE are refused, whatever a policy says.",
        Step.POLICY,
    ),
    Row("XFAM", 8, state, "Processor state that it may use.", "Compared where a policy pins it.", Step.POLICY),
    _register("MRTD", "The measurement of the firmware, as it was put into the trust domain before it ran."),
    _register("MRCONFIGID", "Configuration that whoever launched it chose.", _LAUNCHED),
    _register("MROWNER", "Owner that whoever launched it named.", _LAUNCHED),
    _register("MROWNERCONFIG", "Configuration that whoever launched it gave for the owner.", _LAUNCHED),
    _register("RTMR0", "What the firmware measured of its own configuration: tables, devices, memory."),
    _register("RTMR1", "What the firmware measured before it handed over: boot loader and kernel."),
    _register("RTMR2", "What the boot loader measured: the kernel's command line and the initrd."),
    _register(
        "RTMR3", "What the guest measured itself while it ran: the worker's image, where the boot chain says so."
    ),
    Row(
        "REPORTDATA",
        64,
        binding,
        "What the trust domain put in when it asked for the quote. A worker of Cloister puts in a digest of its "
        "claims: its keys, the verifier's challenge, the mesh that it is for.",
        "Must be the SHA-256 of the claims that came along, and the claims must be the expected ones.",
        Step.BINDING,
    ),
)
TD_15: Final = (
    Row(
        "TEE_TCB_SVN_2",
        16,
        nothing,
        "The security versions of the TDX module that it runs under now; another module may have taken over.",
        "Looked up in the same way; a domain left behind should be launched anew.",
        Step.TCB,
    ),
    Row(
        "MRSERVICETD",
        48,
        zero,
        "Which service domains have a say over this one.",
        "Must be zero, whatever a policy says.",
        Step.POLICY,
    ),
)
TD_15_EXTENDED: Final = (
    Row(
        "Extension of TDX 1.5",
        237,
        zero,
        "More about service domains: those at launch, those bound now, and what they may do.",
        "Hashes and attributes of service domains must be zero.",
        Step.POLICY,
    ),
)
TD_WRAPPING: Final = (
    Row(
        "Certification type",
        2,
        lambda raw: "the quoting enclave's report" if raw == b"\x06\x00" else number(raw),
        "What vouches for the attestation key.",
        "Must be the report of the quoting enclave.",
        Step.QUOTE,
    ),
    Row("Length of certification data", 4, number, "How many bytes follow.", "Must fit.", Step.QUOTE),
)
