"""The fields of an SGX quote of version 3 in their order, with words for each; layouts as in `appraisal/quote.py`."""

from __future__ import annotations

from functools import partial
from typing import Final

from cloister.appraisal.body import ENCLAVE_REPORT_BYTES, EnclaveFlags
from cloister.appraisal.steps import Step
from cloister.client.quote_row import Row, binding, chain, flags_of, nothing, number, reserved, state, vendor, zero

HEADER: Final = (
    Row("Version", 2, number, "Which form of quote this is.", "Must be one that is known.", Step.QUOTE),
    Row(
        "Attestation key type",
        2,
        lambda raw: "ECDSA with P-256" if raw == b"\x02\x00" else number(raw),
        "Kind of key that signed the quote.",
        "Must be ECDSA P-256, the only kind that is verified.",
        Step.QUOTE,
    ),
    Row(
        "TEE type",
        4,
        lambda raw: "SGX" if not any(raw) else "TDX",
        "Which technology of Intel isolates the code.",
        "Must fit the version.",
        Step.QUOTE,
    ),
    Row(
        "QE SVN",
        2,
        number,
        "Security version of the quoting enclave, as it says here.",
        "Not read here: the same number is taken from the signed report below.",
        0,
    ),
    Row(
        "PCE SVN",
        2,
        number,
        "Security version of the enclave that certifies the platform's keys.",
        "Not read here: the number is taken from the platform's certificate, which Intel signed.",
        0,
    ),
    Row(
        "QE vendor",
        16,
        vendor,
        "Who wrote the quoting enclave.",
        "Must be Intel; a simulator says the same, and fails at the root of its certificates.",
        Step.QUOTE,
    ),
    Row("User data", 20, nothing, "Whatever the quoting enclave wishes to add.", "Signed, and not judged.", 0),
)


REPORT: Final = (
    Row(
        "CPUSVN",
        16,
        nothing,
        "Security versions of the processor's microcode and firmware, as the processor itself counts them.",
        "Signed, and not judged here: the platform's certificate has the numbers that Intel's tables are about.",
        0,
    ),
    Row(
        "MISCSELECT",
        4,
        number,
        "Whether the enclave is told more about exceptions.",
        "Nothing but EXINFO may be set.",
        Step.POLICY,
    ),
    Row("CET attributes", 1, number, "Control-flow enforcement of the enclave.", "Must be zero.", Step.POLICY),
    reserved(11),
    Row(
        "ISVEXTPRODID",
        16,
        zero,
        "A longer product number, part of KSS.",
        "Must be zero unless the policy pins it.",
        Step.POLICY,
    ),
    Row(
        "Attributes: flags",
        8,
        partial(flags_of, EnclaveFlags),
        "What the enclave is: INIT (finished), DEBUG (its memory can be read from outside), MODE64BIT, "
        "PROVISION_KEY and EINITTOKEN_KEY (may ask for keys of the platform), KSS.",
        "Must be INIT and MODE64BIT, perhaps KSS. DEBUG is refused, whatever a policy says.",
        Step.POLICY,
    ),
    Row(
        "Attributes: XFRM",
        8,
        state,
        "Which extended processor state the enclave may use, such as AVX.",
        "x87 and SSE must be there; only state that is known may be.",
        Step.POLICY,
    ),
    Row(
        "MRENCLAVE",
        32,
        nothing,
        "The measurement of the worker: SHA-256 over every page of code and data as it was loaded, and how. Another "
        "byte of code, or of Gramine's manifest, gives another number.",
        "Must be one that the trust bundle, or the policy's reference values, name.",
        Step.POLICY,
    ),
    reserved(32),
    Row(
        "MRSIGNER",
        32,
        nothing,
        "SHA-256 of the public key of whoever signed the worker.",
        "Compared where a policy believes a signer in place of a measurement.",
        Step.POLICY,
    ),
    reserved(32),
    Row(
        "CONFIGID",
        64,
        zero,
        "Configuration chosen at launch, part of KSS.",
        "Must be as pinned, or zero.",
        Step.POLICY,
    ),
    Row(
        "ISVPRODID",
        2,
        number,
        "The signer's number for the product.",
        "Compared where a policy believes a signer.",
        Step.POLICY,
    ),
    Row(
        "ISVSVN",
        2,
        number,
        "The signer's security version of the code: it goes up when a hole is closed.",
        "At least the least that the policy names for its signer.",
        Step.POLICY,
    ),
    Row("CONFIGSVN", 2, number, "Version of that configuration, part of KSS.", "As CONFIGID.", Step.POLICY),
    reserved(42),
    Row("ISVFAMILYID", 16, zero, "Number of a family of products, part of KSS.", "As ISVEXTPRODID.", Step.POLICY),
    Row(
        "REPORTDATA",
        64,
        binding,
        "What the enclave itself put in when it asked for the quote. A worker of Cloister puts in a digest of its "
        "claims: its keys, the verifier's challenge, the mesh that it is for.",
        "Must be the SHA-256 of the claims that came along, and the claims must be the expected ones.",
        Step.BINDING,
    ),
)
SIGNATURE: Final = (
    Row("Length", 4, number, "How many bytes follow.", "Must be exactly as many as there are.", Step.QUOTE),
    Row(
        "Signature of the quote",
        64,
        nothing,
        "Made by the key below over header and report.",
        "Must hold: one bit changed above and it does not.",
        Step.SIGNATURE,
    ),
    Row(
        "Attestation key",
        64,
        nothing,
        "Public key that the quoting enclave of this machine signs quotes with.",
        "The quoting enclave's report must vouch for it.",
        Step.QUOTING_ENCLAVE,
    ),
)


QE_REPORT: Final = (
    Row(
        "Report of the quoting enclave",
        ENCLAVE_REPORT_BYTES,
        lambda raw: f"ISVPRODID {number(raw[256:258])}, ISVSVN {number(raw[258:260])}",
        "The same 384 bytes as above, about Intel's quoting enclave on that machine. Its REPORTDATA vouches for "
        "the attestation key.",
        "Signer, product, attributes and version must be those that Intel publishes (QE identity).",
        Step.QUOTING_ENCLAVE,
    ),
    Row(
        "Signature of that report",
        64,
        nothing,
        "Made by the platform's own key, the PCK.",
        "Must hold under the first certificate below.",
        Step.QUOTING_ENCLAVE,
    ),
)


def certification(auth_bytes: int, chain_bytes: int) -> tuple[Row, ...]:
    """What a quote ends with; two of its fields have lengths of their own."""
    return (
        Row("Length of authentication data", 2, number, "How many bytes follow.", "Must fit.", Step.QUOTE),
        Row(
            "Authentication data",
            auth_bytes,
            nothing,
            "What the quoting enclave mixes into its REPORTDATA beside the attestation key.",
            "The digest of key and data must be in the quoting enclave's report.",
            Step.QUOTING_ENCLAVE,
        ),
        Row(
            "Certification type",
            2,
            lambda raw: "a chain of certificates, in PEM" if raw == b"\x05\x00" else number(raw),
            "In which form the platform's certificate comes.",
            "Must be the chain itself: nobody is asked for it.",
            Step.QUOTE,
        ),
        Row("Length of certificates", 4, number, "How many bytes follow.", "Must fit.", Step.QUOTE),
        Row(
            "Certificate chain",
            chain_bytes,
            chain,
            "The platform's certificate (PCK), the CA that issued it, and the root. The first one says which family "
            "the machine is of and how far it is patched.",
            "Must lead to the trust anchor, be in date and not revoked; how far it is patched is then looked up in "
            "Intel's TCB information.",
            Step.CHAIN,
        ),
    )
