"""A model key on its way to an attested worker (design: release).

The worker proves that it holds the receipt key of its Attestation Result by signing `proof_message`, over a fresh nonce
of the provisioner. The answer is a Grant sealed by HPKE to the attested key; its `info` names everything that the
release is about, so a grant moved to another worker, model, version, lease or Attestation Result does not open.
With the model key come the keys that jobs for the model are sealed to, of its present epoch and of those before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from cloister.api.v1 import provisioner_pb2
from cloister.api.v1.model_pb2 import SignedReleasePolicy
from cloister.api.v1.provisioner_pb2 import Grant
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from cloister.seal.keys import KEY_BYTES, ModelKey, Secret
from cloister.seal.names import check_model
from cloister.seal.release_policy import MAX_POLICY_BYTES, MAX_SIGNATURE_BYTES

NONCE_BYTES: Final = 32
MAX_EPOCHS: Final = 32
_DIGEST_BYTES: Final = 32
_MAX_LEASE_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKey:
    """The private half of a key that jobs for a model are sealed to, as its seed.

    Attributes:
        epoch: Its number among those of this model's name, from 1.
        suite: One of `hpke.SUITES`.
        seed: 32 bytes, as `hpke.KeyPair.from_seed` takes them.
        seal_until_ms: Nothing is sealed to it later; Unix time, as is `open_until_ms`.
        open_until_ms: The provisioner destroys it then.
        policy: The release policy under which the epoch began: a serialised ReleasePolicy, exact bytes.
        policy_signature: Over them, by the model's owner, or an envelope (`kit.signed_policy`).
    """

    epoch: int
    suite: str
    seed: Secret
    seal_until_ms: int
    open_until_ms: int
    policy: bytes
    policy_signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGrant:
    """A model key and the terms it comes under.

    Attributes:
        model_digest: Digest of the sealed model file, 32 bytes.
        allow_plain: Whether requests that are not sealed may be answered.
        lease_s: For how long the key may be used, from the moment the worker asked; then it must be dropped or renewed.
        policy_digest: SHA-256 of the release policy that the owner signed.
        epochs: What jobs for the model are sealed to, newest first; may be none.
        signer_sets: Of the model, from the first on, as they were signed; for who judges the policies of its epochs.
    """

    model_key: ModelKey
    model_name: str
    model_version: int
    model_digest: bytes
    allow_plain: bool
    lease_s: int
    policy_digest: bytes
    epochs: tuple[EpochKey, ...] = ()
    signer_sets: tuple[bytes, ...] = ()


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
    _check_epochs(grant.epochs)
    message = Grant(
        model_key=grant.model_key.reveal(),
        model_name=grant.model_name,
        model_version=grant.model_version,
        model_digest=grant.model_digest,
        allow_plain=grant.allow_plain,
        lease_s=grant.lease_s,
        policy_digest=grant.policy_digest,
        epochs=[_epoch_message(key) for key in grant.epochs],
        signer_sets=grant.signer_sets,
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
        epochs = tuple(_epoch_key(key) for key in message.epochs)
        _check_epochs(epochs)
    except (DecodeError, InvalidRequest):
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
        epochs=epochs,
        signer_sets=tuple(message.signer_sets),
    )


def _check_epochs(keys: Sequence[EpochKey]) -> None:
    """Check their form and order; raises InvalidRequest."""
    if len(keys) > MAX_EPOCHS:
        raise InvalidRequest(f"a grant has the keys of at most {MAX_EPOCHS} epochs")
    numbers = [key.epoch for key in keys]
    if numbers != sorted(set(numbers), reverse=True) or 0 in numbers:
        raise InvalidRequest("epochs are numbered from 1, each once, the newest first")
    for key in keys:
        if key.suite not in hpke.SUITES or len(key.seed) != hpke.SEED_BYTES:
            raise InvalidRequest("an epoch has a seed of a known HPKE suite")
        if not 0 < key.seal_until_ms <= key.open_until_ms:
            raise InvalidRequest("an epoch's key opens for as long as something is sealed to it, or longer")
        if not 0 < len(key.policy) <= MAX_POLICY_BYTES or not 0 < len(key.policy_signature) <= MAX_SIGNATURE_BYTES:
            raise InvalidRequest("an epoch begins under a signed release policy")


def _epoch_message(key: EpochKey) -> provisioner_pb2.EpochKey:
    return provisioner_pb2.EpochKey(
        epoch=key.epoch,
        hpke_suite=key.suite,
        seed=key.seed.reveal(),
        seal_until_ms=key.seal_until_ms,
        open_until_ms=key.open_until_ms,
        policy=SignedReleasePolicy(policy=key.policy, signature=key.policy_signature),
    )


def _epoch_key(message: provisioner_pb2.EpochKey) -> EpochKey:
    return EpochKey(
        epoch=message.epoch,
        suite=message.hpke_suite,
        seed=Secret(message.seed),
        seal_until_ms=message.seal_until_ms,
        open_until_ms=message.open_until_ms,
        policy=message.policy.policy,
        policy_signature=message.policy.signature,
    )
