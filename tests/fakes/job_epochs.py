"""Epochs of a model, as a worker holds them."""

from __future__ import annotations

from typing import Any

from cloister.seal.grant import EpochKey
from cloister.seal.hpke import X25519
from cloister.seal.keys import Secret
from cloister.worker.job_epochs import HeldEpoch, JobEpochs

DAY_MS = 86_400_000


def epoch_key(number: int = 1, **changes: Any) -> EpochKey:
    """A key as it comes in a grant; the same number, the same key."""
    fields: dict[str, Any] = {
        "epoch": number,
        "suite": X25519,
        "seed": Secret(bytes([number]) * 32),
        "seal_until_ms": DAY_MS,
        "open_until_ms": 2 * DAY_MS,
        "policy": b"policy",
        "policy_signature": b"s" * 64,
    }
    return EpochKey(**{**fields, **changes})


def held(*keys: EpochKey) -> tuple[HeldEpoch, ...]:
    """The same as a worker holds them, newest first."""
    return JobEpochs.of(keys).newest_first
