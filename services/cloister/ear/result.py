"""The Attestation Result itself, and how it is written in the EAR profile.

Every member is required, none may be added or given twice, and each has one JSON type.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloister import __version__
from cloister.ear.code import SGX, Code, code_members, read_code, write_code
from cloister.ear.members import (
    array,
    base64url,
    count,
    digest,
    exact_object,
    flag,
    from_base64url,
    hex_32,
    text,
    tier,
    time,
)
from cloister.td_measurement import TdMeasurement

PROFILE: Final = "tag:github.com,2023:veraison/ear"
SIMULATED_HARDWARE: Final = 96  # AR4SI: contraindicated
_MEMBERS: Final = frozenset(
    {"eat_profile", "iss", "aud", "jti", "iat", "exp", "eat_nonce", "ear.verifier-id", "cnf", "submods", "cloister"}
)
_OWN_MEMBERS: Final = frozenset(
    {
        *("role", "spiffe_id", "cluster", "instance", "tls_spki_sha256", "hpke_suite", "hpke_public", "tee"),
        *("debug", "tcb_status", "advisory_ids", "tcb_evaluation", "ppid_sha256"),
        *("collateral_sha256", "config_digest", "anchor", "simulated", "policy_digest"),
    }
)
_SUBMODULE_MEMBERS: Final = frozenset({"ear.status", "ear.trustworthiness-vector", "ear.appraisal-policy-id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What a Verifier believes of an Attester, for one Relying Party and for a while.

    Attributes:
        ear_id: `jti` of the token.
        nonce: The challenge the evidence answered.
        receipt_key: Ed25519 public key, 32 bytes; in the token's `cnf`.
        tee: `sgx` for an enclave, `tdx` for a trust domain.
        mrenclave: 64 lower-case hex digits, as are `mrsigner` and `ppid_sha256`; empty, with the other enclave fields
            zero, for a trust domain.
        td: What a trust domain measures as; None for an enclave.
        ppid_sha256: SHA-256 of the platform's PPID.
        tcb_evaluation: TCB evaluation data number of the collateral used.
        anchor: Name of the trust anchor that the quote chains to; `simulated` says whether it is a simulator's.
        hardware: AR4SI claim, as are `executables` and `configuration`: 2 to 31 affirm, 32 to 95 warn, 96 and up
            contraindicate.
        policy_digest: SHA-256 of the appraisal policy.
    """

    issuer: str
    audience: str
    ear_id: str
    issued_at: datetime
    expires_at: datetime
    nonce: bytes
    role: str
    spiffe_id: str
    cluster: str
    instance: str
    tls_spki_sha256: bytes
    receipt_key: bytes
    hpke_suite: str
    hpke_public: bytes
    tee: str = SGX
    mrenclave: str
    mrsigner: str
    isvprodid: int
    isvsvn: int
    td: TdMeasurement | None = None
    debug: bool
    tcb_status: str
    advisory_ids: tuple[str, ...]
    tcb_evaluation: int
    ppid_sha256: str
    collateral_sha256: bytes
    config_digest: bytes
    anchor: str
    simulated: bool
    hardware: int
    executables: int
    configuration: int
    policy_id: str
    policy_digest: bytes

    @property
    def measurement(self) -> str:
        """What stands for the code: MRENCLAVE, or the digest of a trust domain's measurements; 64 hex digits."""
        return self.mrenclave if self.td is None else self.td.digest.hex()

    @property
    def status(self) -> str:
        """The trustworthiness tier (AR4SI section 3.2): that of the worst claim."""
        worst = max(self.hardware, self.executables, self.configuration)
        tiers = ((96, "contraindicated"), (32, "warning"), (2, "affirming"))
        return next((tier for least, tier in tiers if worst >= least), "none")


def to_claims(result: AttestationResult) -> dict[str, object]:
    """Write a result as the claims of a token."""
    return {
        "eat_profile": PROFILE,
        "iss": result.issuer,
        "aud": result.audience,
        "jti": result.ear_id,
        "iat": int(result.issued_at.timestamp()),
        "exp": int(result.expires_at.timestamp()),
        "eat_nonce": base64url(result.nonce),
        "ear.verifier-id": {"developer": "Cloister", "build": __version__},
        "cnf": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": base64url(result.receipt_key)}},
        "submods": {
            result.role: {
                "ear.status": result.status,
                "ear.trustworthiness-vector": {
                    "hardware": result.hardware,
                    "executables": result.executables,
                    "configuration": result.configuration,
                },
                "ear.appraisal-policy-id": result.policy_id,
            }
        },
        "cloister": {
            "role": result.role,
            "spiffe_id": result.spiffe_id,
            "cluster": result.cluster,
            "instance": result.instance,
            "tls_spki_sha256": base64url(result.tls_spki_sha256),
            "hpke_suite": result.hpke_suite,
            "hpke_public": base64url(result.hpke_public),
            "tee": result.tee,
            **write_code(result.tee, _code(result)),
            "debug": result.debug,
            "tcb_status": result.tcb_status,
            "advisory_ids": list(result.advisory_ids),
            "tcb_evaluation": result.tcb_evaluation,
            "ppid_sha256": result.ppid_sha256,
            "collateral_sha256": base64url(result.collateral_sha256),
            "config_digest": base64url(result.config_digest),
            "anchor": result.anchor,
            "simulated": result.simulated,
            "policy_digest": base64url(result.policy_digest),
        },
    }


def from_claims(payload: object) -> AttestationResult:
    """Read the claims; raises ValueError for anything that is not exactly of this profile."""
    claims = exact_object(payload, _MEMBERS)
    own = exact_object(claims["cloister"], None)
    exact_object(own, _OWN_MEMBERS | code_members(own.get("tee")))
    code = read_code(own["tee"], own)
    role = text(own["role"])
    submodule = exact_object(exact_object(claims["submods"], {role})[role], _SUBMODULE_MEMBERS)
    vector = exact_object(submodule["ear.trustworthiness-vector"], {"hardware", "executables", "configuration"})
    jwk = exact_object(exact_object(claims["cnf"], {"jwk"})["jwk"], {"kty", "crv", "x"})
    verifier = exact_object(claims["ear.verifier-id"], {"developer", "build"})
    for name in verifier.values():
        text(name)
    if claims["eat_profile"] != PROFILE or (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
        raise ValueError("another profile, or another kind of receipt key")
    result = AttestationResult(
        issuer=text(claims["iss"]),
        audience=text(claims["aud"]),
        ear_id=text(claims["jti"]),
        issued_at=time(claims["iat"]),
        expires_at=time(claims["exp"]),
        nonce=digest(claims["eat_nonce"]),
        role=role,
        spiffe_id=text(own["spiffe_id"]),
        cluster=text(own["cluster"]),
        instance=text(own["instance"]),
        tls_spki_sha256=digest(own["tls_spki_sha256"]),
        receipt_key=digest(jwk["x"]),
        hpke_suite=text(own["hpke_suite"]),
        hpke_public=from_base64url(text(own["hpke_public"])),
        tee=text(own["tee"]),
        mrenclave=code.mrenclave,
        mrsigner=code.mrsigner,
        isvprodid=code.isvprodid,
        isvsvn=code.isvsvn,
        td=code.td,
        debug=flag(own["debug"]),
        tcb_status=text(own["tcb_status"]),
        advisory_ids=tuple(text(advisory) for advisory in array(own["advisory_ids"])),
        tcb_evaluation=count(own["tcb_evaluation"]),
        ppid_sha256=hex_32(own["ppid_sha256"]),
        collateral_sha256=digest(own["collateral_sha256"]),
        config_digest=digest(own["config_digest"]),
        anchor=text(own["anchor"]),
        simulated=flag(own["simulated"]),
        hardware=tier(vector["hardware"]),
        executables=tier(vector["executables"]),
        configuration=tier(vector["configuration"]),
        policy_id=text(submodule["ear.appraisal-policy-id"]),
        policy_digest=digest(own["policy_digest"]),
    )
    _check_agreement(result, submodule["ear.status"])
    return result


def _code(result: AttestationResult) -> Code:
    return Code(result.mrenclave, result.mrsigner, result.isvprodid, result.isvsvn, result.td)


def _check_agreement(result: AttestationResult, status: object) -> None:
    if status != result.status:
        raise ValueError("status and vector disagree")
    if result.simulated and result.hardware != SIMULATED_HARDWARE:
        raise ValueError("simulated evidence with another hardware claim")
    if not result.spiffe_id.startswith(f"spiffe://{result.cluster}/{result.role}/"):
        raise ValueError("cluster and role do not fit the SPIFFE id")
    if result.expires_at <= result.issued_at:
        raise ValueError("ends before it begins")
