"""Appraisal policies for tests, and the people who sign them."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.appraisal.policy_document import PAYLOAD_TYPE
from fakes.sim import ENCLAVE

SIGNERS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 4)]
SIGNER_KEYS = tuple(key.public_key().public_bytes_raw().hex() for key in SIGNERS)


def policy_toml(version: int, extra: str = "", *, mrenclave: bytes = ENCLAVE.mrenclave) -> bytes:
    """A policy that wants the tests' enclave; `extra` goes before the first table."""
    text = f"""policy_id = "tests"
version = {version}
{extra}
[[reference_values]]
mrenclave = "{mrenclave.hex()}"
"""
    return text.encode()


def signed(toml: bytes, *signers: int) -> bytes:
    """An envelope around it, signed by these of `SIGNERS`."""
    return dsse.sign(toml, PAYLOAD_TYPE, [SIGNERS[n] for n in signers])
