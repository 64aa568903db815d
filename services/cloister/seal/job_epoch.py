"""What an attested worker says of the key that jobs for a model are sealed to (docs/decisions/0045-epoch-keys.md).

A job may outlive every worker that runs when it is sealed, so it is sealed to a key of the model's, not of a worker's.
Who may have the private half is said by the release policy in the statement, which the model's owner signed. That the
key is what it is said to be, is said by a worker that has it: Ed25519 by the receipt key of its Attestation Result,
over a label and exact bytes. Whoever hands the statement on, as gateways do, can hold it back and change nothing in it.

Pure. What is in a statement must be held against the Attestation Result that brought the receipt key, against the
owner's key, and against what one believes of the policy; here is its form alone.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from cloister.api.v1.model_pb2 import JobEpoch, SignedJobEpoch
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal.hpke import PUBLIC_BYTES, context
from cloister.seal.names import check_instance, check_model
from cloister.seal.release_policy import MAX_POLICY_BYTES, MAX_SIGNATURE_BYTES, MAX_SIGNER_SETS_BYTES

MAX_STATEMENT_BYTES: Final = MAX_POLICY_BYTES + MAX_SIGNATURE_BYTES + MAX_SIGNER_SETS_BYTES + 4096
_LABEL: Final = "cloister job epoch v1"


def sign_epoch(epoch: JobEpoch, receipt_key: Ed25519PrivateKey) -> SignedJobEpoch:
    """Return the statement with the worker's signature; the same statement gives the same bytes.

    Raises:
        InvalidRequest: A field has not its form.
    """
    _check(epoch)
    statement = epoch.SerializeToString(deterministic=True)
    return SignedJobEpoch(statement=statement, signature=receipt_key.sign(context(_LABEL, statement)))


def verify_epoch(signed: SignedJobEpoch, receipt_key: bytes) -> JobEpoch:
    """Return the statement that the holder of an attested receipt key signed.

    Args:
        signed: As a gateway handed it on.
        receipt_key: From the Attestation Result of the worker that must have said it, Ed25519, 32 bytes.

    Raises:
        SealBroken: Not signed by this key, altered, or no such statement.
    """
    if len(UnknownFieldSet(signed)) or len(signed.statement) > MAX_STATEMENT_BYTES:
        raise SealBroken
    try:
        key = Ed25519PublicKey.from_public_bytes(receipt_key)
        key.verify(signed.signature, context(_LABEL, signed.statement))
        epoch = JobEpoch.FromString(signed.statement)
        _check(epoch)
    except (InvalidSignature, ValueError, DecodeError, InvalidRequest):
        raise SealBroken from None
    return epoch


def _check(epoch: JobEpoch) -> None:
    """Check the form of all fields; raises InvalidRequest."""
    if len(UnknownFieldSet(epoch)) or len(UnknownFieldSet(epoch.policy)):
        raise InvalidRequest("the statement has a field that this version does not know")
    check_instance(epoch.instance)
    check_model(epoch.model_name, epoch.epoch)
    if not epoch.cluster or not epoch.ear_id:
        raise InvalidRequest("a statement names its mesh and an Attestation Result")
    if len(epoch.hpke_public) != PUBLIC_BYTES.get(epoch.hpke_suite):
        raise InvalidRequest("a statement has a public key of a known HPKE suite")
    if not 0 < epoch.seal_until_ms <= epoch.open_until_ms:
        raise InvalidRequest("a key opens for as long as something is sealed to it, or longer")
    policy = epoch.policy
    if not 0 < len(policy.policy) <= MAX_POLICY_BYTES or not 0 < len(policy.signature) <= MAX_SIGNATURE_BYTES:
        raise InvalidRequest("a statement has a signed release policy")
