"""Keys at rest: each wrapped under a root key, and bound to the record that it belongs to.

What a wrapped key is bound to is all that its record says, and the owner's key: one that was moved to another record,
or whose record was given another owner, manifest, policy or time, does not unwrap. What wraps is a back end in
`vaults`; which of them, and under which root key each lies, is the business of `keyring`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from cloister.seal.hpke import context
from cloister.seal.keys import Secret

UNAVAILABLE: Final = "vault.unavailable"
"""Reason: the back end does not answer, or not in time; the same may succeed when it is back."""
REFUSED: Final = "vault.refused"
"""Reason: the back end answers, and not to us, or with what is no answer; asking again changes nothing."""


class Record(Protocol):
    """What a wrapped key is bound to; all of it is stored beside the key in clear."""

    def aad(self) -> bytes:
        """All of it, unambiguously: no two records have the same."""


@dataclass(frozen=True, slots=True)
class RecordId:
    """What the key of a model is bound to."""

    model_name: str
    model_version: int
    manifest_sha256: bytes
    owner_key: bytes

    def aad(self) -> bytes:
        """These fields, unambiguously, as the wrap's additional data."""
        return context(
            "cloister vault record v1", self.model_name, self.model_version, self.manifest_sha256, self.owner_key
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochId:
    """What the seed of an epoch's key is bound to; times are Unix time in milliseconds."""

    model_name: str
    epoch: int
    suite: str
    began_ms: int
    seal_until_ms: int
    open_until_ms: int
    policy_sha256: bytes
    owner_key: bytes

    def aad(self) -> bytes:
        """These fields, unambiguously, as the wrap's additional data."""
        times = (self.began_ms, self.seal_until_ms, self.open_until_ms)
        named = (self.model_name, self.epoch, self.suite)
        return context("cloister vault epoch v1", *named, *times, self.policy_sha256, self.owner_key)


@dataclass(frozen=True, slots=True)
class LogKeyId:
    """What the seed of the key that signs a cluster's log is bound to."""

    cluster: str
    public: bytes

    def aad(self) -> bytes:
        """These fields, unambiguously, as the wrap's additional data."""
        return context("cloister vault log key v1", self.cluster, self.public)


class Vault(Protocol):
    """One root key, wherever it is kept. Blocking and thread safe: called off the event loop.

    Both calls raise Unavailable (`vault.unavailable`) while the back end does not answer, and NotReady
    (`vault.refused`) where it answers and will not do it. No other root key ever stands in for it.
    """

    def key_id(self) -> str:
        """Name of the root key, stable, and another one for each key; tells nothing about it."""

    def wrap(self, record: Record, secret: Secret) -> bytes:
        """Wrap `secret` so that it opens for exactly this record."""

    def unwrap(self, record: Record, wrapped: bytes) -> Secret:
        """Return the secret; raises SealBroken when it was not wrapped for exactly this record under this root."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A secret as it is stored.

    Attributes:
        content: Wrapped under a root key.
        root_key_id: Name of that root key.
        recovery_copy: Sealed to the recovery key; empty while none was dealt.
    """

    content: bytes = field(repr=False)
    root_key_id: str
    recovery_copy: bytes = field(default=b"", repr=False)
