"""Signer sets of a model, and the people in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.api.v1.provisioner_pb2 import ReleasePolicy
from cloister.kit.signed_policy import POLICY_TYPE
from cloister.kit.signer_set import SIGNER_SET_TYPE, SignerSet
from fakes.results import CLUSTER, MODEL, good_policy

OWNER, ALICE, BOB, CAROL, DAVE = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 6))


def public(key: Ed25519PrivateKey) -> str:
    """A person's public key, in hex."""
    return key.public_key().public_bytes_raw().hex()


def signer_set(version: int, threshold: int, *keys: Ed25519PrivateKey, **changes: Any) -> SignerSet:
    """So many of these keys, for the tests' model."""
    fields: dict[str, Any] = {
        "model_name": MODEL,
        "cluster": CLUSTER,
        "version": version,
        "threshold": threshold,
        "keys": tuple(sorted(map(public, keys))),
    }
    return SignerSet(**{**fields, **changes})


def signed_set(signers: SignerSet, *by: Ed25519PrivateKey) -> bytes:
    """The set's document, signed by these."""
    return dsse.sign(signers.document(), SIGNER_SET_TYPE, by)


FIRST = signed_set(signer_set(1, 2, ALICE, BOB, CAROL), OWNER, ALICE, BOB)
"""The owner hands the model to two of three."""
SECOND = signed_set(signer_set(2, 2, BOB, CAROL, DAVE), ALICE, BOB, CAROL)
"""These replace Alice by Dave."""


def set_policy(signer_set_version: int, by: Sequence[Ed25519PrivateKey], **changes: Any) -> tuple[bytes, bytes]:
    """A policy that names this set, and an envelope of it by these people."""
    policy: ReleasePolicy = good_policy(signer_set=signer_set_version, **changes)
    raw = policy.SerializeToString()
    return raw, dsse.sign(raw, POLICY_TYPE, by)
