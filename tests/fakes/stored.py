"""Rows of a provisioner's store, and what writes their lines in the log."""

from __future__ import annotations

from cloister.errors import Unavailable
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.models.epoch_store import StoredEpoch
from cloister.provisioner.models.stored import Owner, StoredModel, StoredPolicy
from fakes.results import good_policy

ALICE = Owner("spiffe://demo.cloister.internal/owner/alice", b"a" * 32)
BOB = Owner("spiffe://demo.cloister.internal/owner/bob", b"b" * 32)
IRIS = StoredModel(
    name="iris",
    version=1,
    owner=ALICE,
    manifest=b"{}",
    signature=b"s" * 64,
    recovery_copy=b"",
    wrapped_key=b"w" * 61,
    root_key_id="root",
)
POLICY = StoredPolicy(1, good_policy(min_model_version=0).SerializeToString(), b"s" * 64)
EPOCH = StoredEpoch(
    name="iris",
    number=1,
    suite="x25519",
    began_ms=1_000,
    seal_until_ms=2_000,
    open_until_ms=3_000,
    policy=POLICY.policy,
    signature=POLICY.signature,
    recovery_copy=b"",
    wrapped_seed=b"w" * 61,
    root_key_id="other root",
)


def written(change: Change) -> int:
    return change.line("row.written")


def failing(change: Change) -> int:
    raise Unavailable("the record cannot be written")
