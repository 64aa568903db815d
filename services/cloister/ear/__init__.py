"""The Attestation Result as an EAR (EAT profile, AR4SI trustworthiness vector) in a JWT: issue it, check it."""

from cloister.ear.keys import TOKEN_TYPE, KeySet, SigningKey, thumbprint
from cloister.ear.result import PROFILE, SIMULATED_HARDWARE, AttestationResult
from cloister.ear.token import LEEWAY, MAX_TOKEN_BYTES, check, issue, key_named, unverified

__all__ = [
    "LEEWAY",
    "MAX_TOKEN_BYTES",
    "PROFILE",
    "SIMULATED_HARDWARE",
    "TOKEN_TYPE",
    "AttestationResult",
    "KeySet",
    "SigningKey",
    "check",
    "issue",
    "key_named",
    "thumbprint",
    "unverified",
]
