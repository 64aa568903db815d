"""What came of an appraisal: as an Attestation Result, and as the record tells of it (no claims, quote or token)."""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import timedelta

from cloister.appraisal.appraise import Appraisal
from cloister.appraisal.body import EnclaveReport
from cloister.appraisal.family import family_of_quote
from cloister.appraisal.policy import NO_CLAIM
from cloister.appraisal.quote import parse_quote
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence import binding
from cloister.kit.result_facts import code_facts, td_facts
from cloister.kit.revocation import Kind, Name, Names
from cloister.verifier.nonces import Purpose

# AR4SI, `executables`: code of which the Verifier knows nothing, good or bad.
UNRECOGNISED = 33

Facts = dict[str, str | int | float | bool | list[str] | None]


def attestation_result(appraisal: Appraisal, *, issuer: str, purpose: Purpose, life: timedelta) -> AttestationResult:
    """The result for one purpose, from the whole second of the appraisal on.

    Where the policy has no reference values, `executables` warns of unrecognised code rather than to say nothing: a
    relying party that looks at the tier alone must not take silence for approval.
    """
    claims = appraisal.claims
    issued_at = appraisal.appraised_at.replace(microsecond=0)
    return AttestationResult(
        issuer=issuer,
        audience=purpose.audience,
        ear_id=secrets.token_hex(16),
        issued_at=issued_at,
        expires_at=issued_at + life,
        nonce=claims.nonce,
        role=claims.role,
        spiffe_id=claims.spiffe_id,
        cluster=claims.cluster,
        instance=claims.instance,
        tls_spki_sha256=claims.tls_spki_sha256,
        receipt_key=claims.receipt_key,
        hpke_suite=claims.hpke_suite,
        hpke_public=claims.hpke_public,
        tee=appraisal.tee.value,
        mrenclave=appraisal.mrenclave.hex(),
        mrsigner=appraisal.mrsigner.hex(),
        isvprodid=appraisal.isvprodid,
        isvsvn=appraisal.isvsvn,
        td=appraisal.td,
        debug=appraisal.debug,
        tcb_status=appraisal.tcb_status.value,
        advisory_ids=appraisal.advisory_ids,
        tcb_evaluation=appraisal.tcb_evaluation,
        ppid_sha256=appraisal.ppid_sha256.hex(),
        collateral_sha256=appraisal.collateral_sha256,
        config_digest=claims.config_digest,
        anchor=appraisal.anchor,
        simulated=appraisal.simulated,
        hardware=appraisal.hardware,
        executables=UNRECOGNISED if appraisal.executables == NO_CLAIM else appraisal.executables,
        configuration=appraisal.configuration,
        policy_id=appraisal.policy_id,
        policy_digest=appraisal.policy_digest,
    )


def names(appraisal: Appraisal) -> Names:
    """Everything that whoever was appraised can be revoked by, the broadest first; trust domains have no signer."""
    return (
        Name(Kind.MEASUREMENT, appraisal.measurement.hex()),
        *((Name(Kind.SIGNER, appraisal.mrsigner.hex()),) if appraisal.td is None else ()),
        Name(Kind.PLATFORM, appraisal.ppid_sha256.hex()),
        Name(Kind.INSTANCE, appraisal.claims.instance),
    )


def facts(result: AttestationResult) -> Facts:
    """What was believed."""
    return {
        "instance": result.instance,
        **code_facts(result),
        "tcb_status": result.tcb_status,
        "advisory_ids": list(result.advisory_ids),
        "tcb_evaluation": result.tcb_evaluation,
        "ppid_sha256": result.ppid_sha256,
        "collateral_sha256": result.collateral_sha256.hex(),
        "config_digest": result.config_digest.hex(),
        "anchor": result.anchor,
        "simulated": result.simulated,
        "policy_id": result.policy_id,
        "policy_digest": result.policy_digest.hex(),
    }


def claimed(raw_quote: bytes, raw_claims: bytes) -> Facts:
    """What rejected evidence says of itself, as far as it can be read: it helps to find its origin, and no more."""
    told: Facts = {}
    with suppress(EvidenceRejected):
        quote = parse_quote(raw_quote)
        body = quote.body
        if isinstance(body, EnclaveReport):
            told |= {"mrenclave": body.mrenclave.hex(), "mrsigner": body.mrsigner.hex()}
        else:
            told |= td_facts(body.measurement)
        told["tee"] = quote.tee.value
        family = family_of_quote(quote)
        told |= {"fmspc": family.fmspc.hex(), "pck_ca": family.ca.value}
    with suppress(InvalidRequest):
        told["instance"] = binding.decode(raw_claims).instance
    return told
