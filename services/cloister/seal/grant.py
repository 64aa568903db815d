"""A model key on its way to an attested worker (design: release).

The worker proves that it holds the receipt key of its Attestation Result by signing `proof_message`, over a fresh nonce
of the provisioner. The answer is a Grant sealed by HPKE to the attested key; its `info` names everything that the
release is about, so a grant moved to another worker, model, version, lease or Attestation Result does not open.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from cloister.api.v1.provisioner_pb2 import Grant
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from cloister.seal.keys import KEY_BYTES, ModelKey, Secret
from cloister.seal.names import check_model

NONCE_BYTES: Final = 32
_DIGEST_BYTES: Final = 32
_MAX_LEASE_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGrant:
    """A model key and the terms it comes under.

    Attributes:
        model_digest: Digest of the sealed model file, 32 bytes.
        allow_plain: Whether requests that are not sealed may be answered.
        lease_s: For how long the key may be used, from the moment the worker asked; then it must be dropped or renewed.
        policy_digest: SHA-256 of the release policy that the owner signed.
    """

    model_key: ModelKey
    model_name: str
    model_version: int
    model_digest: bytes
    allow_plain: bool
    lease_s: int
    policy_digest: bytes


def proof_message(nonce: bytes, ear: str, model_name: str, model_version: int) -> bytes:
    """Return what the attested receipt key signs to ask for a model key.

    Args:
        nonce: The provisioner's, 32 bytes.
        ear: The Attestation Result, as it is sent along.
        model_name: As asked for.
        model_version: As asked for; 0 for the newest.
    """
    token_digest = hashlib.sha256(ear.encode()).digest()
    return hpke.context("cloister release proof v1", nonce, token_digest, model_name, model_version)


def grant_info(
    cluster: str, instance: str, model_digest: bytes, model_version: int, lease_id: str, ear_id: str
) -> bytes:
    """Return the HPKE `info` of a grant."""
    return hpke.context("cloister grant v1", cluster, instance, model_digest, model_version, lease_id, ear_id)


def seal_grant(grant: ModelGrant, *, suite: str, public: bytes, info: bytes) -> bytes:
    """Seal a grant to the attested HPKE key.

    Raises:
        InvalidRequest: A field has not its form, or the public key is not one.
    """
    check_model(grant.model_name, grant.model_version)
    lengths = (len(grant.model_key), len(grant.model_digest), len(grant.policy_digest))
    if lengths != (KEY_BYTES, _DIGEST_BYTES, _DIGEST_BYTES):
        raise InvalidRequest("a grant has a key and two digests of 32 bytes each")
    if not 0 < grant.lease_s <= _MAX_LEASE_S:
        raise InvalidRequest(f"a lease lasts 1 to {_MAX_LEASE_S} seconds")
    message = Grant(
        model_key=grant.model_key.reveal(),
        model_name=grant.model_name,
        model_version=grant.model_version,
        model_digest=grant.model_digest,
        allow_plain=grant.allow_plain,
        lease_s=grant.lease_s,
        policy_digest=grant.policy_digest,
    )
    return hpke.seal(suite, public, message.SerializeToString(deterministic=True), info)


def open_grant(
    sealed: bytes, pair: hpke.KeyPair, info: bytes, *, model_name: str, model_version: int, model_digest: bytes
) -> ModelGrant:
    """Open a grant that must be for the model whose manifest came with it.

    Raises:
        SealBroken: Sealed to another key or for another purpose, altered, or for another model.
    """
    try:
        message = Grant.FromString(pair.open(sealed, info))
    except DecodeError:
        raise SealBroken from None
    named = (message.model_name, message.model_version, message.model_digest)
    key = ModelKey(Secret(message.model_key))
    lengths = (len(key), len(message.model_digest), len(message.policy_digest))
    if named != (model_name, model_version, model_digest) or lengths != (KEY_BYTES, _DIGEST_BYTES, _DIGEST_BYTES):
        raise SealBroken
    return ModelGrant(
        model_key=key,
        model_name=message.model_name,
        model_version=message.model_version,
        model_digest=message.model_digest,
        allow_plain=message.allow_plain,
        lease_s=message.lease_s,
        policy_digest=message.policy_digest,
    )
