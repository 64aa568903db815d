"""The keys that jobs for a model are sealed to, as they came with one lease, and what is said of them.

They live in the model that the lease is for (`served`), and go with it. A seed is made into a key pair when it comes,
and wiped; private halves are OpenSSL's own objects, which it overwrites when the pair is dropped.

Which key is announced: of those that began under the same policy as the newest, the one that ends first. So no key is
announced before everybody who has a lease has been given it, and a key under a new policy is announced at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.model_pb2 import JobEpoch, SignedJobEpoch, SignedReleasePolicy
from cloister.errors import NotReady
from cloister.seal.grant import EpochKey
from cloister.seal.hpke import KeyPair
from cloister.seal.job_epoch import sign_epoch

MARGIN_MS: Final = 300_000
"""A key that is sealed to for no longer than this is not announced where there is another: clocks differ."""


@dataclass(frozen=True, slots=True)
class HeldEpoch:
    """One epoch's key, and its model's signer sets; times are Unix time. See `EpochKey` and `ModelGrant`."""

    number: int
    pair: KeyPair
    seal_until_ms: int
    open_until_ms: int
    policy: bytes
    policy_signature: bytes
    signer_sets: tuple[bytes, ...] = ()

    def like(self, other: HeldEpoch) -> bool:
        """Whether they began under the same terms."""
        return (self.policy, self.pair.suite) == (other.policy, other.pair.suite)


class JobEpochs:
    """The epochs of one lease.

    Attributes:
        newest_first: All of them.
    """

    def __init__(self, newest_first: Iterable[HeldEpoch] = ()) -> None:
        self.newest_first = tuple(newest_first)

    @classmethod
    def of(cls, keys: Iterable[EpochKey], signer_sets: Sequence[bytes] = ()) -> JobEpochs:
        """Take over what came in a grant, and the signer sets of its model; no seed is left in it."""
        return cls(_held(key, signer_sets) for key in keys)

    @property
    def key_ids(self) -> frozenset[bytes]:
        """Of all of them."""
        return frozenset(epoch.pair.key_id for epoch in self.newest_first)

    def find(self, key_id: bytes, now_ms: int) -> KeyPair | None:
        """The key pair of this name, until it ends."""
        for epoch in self.newest_first:
            if epoch.pair.key_id == key_id and now_ms < epoch.open_until_ms:
                return epoch.pair
        return None

    def check(self, number: int) -> None:
        """Check that the lease brought this epoch's key: then its policy lets the lease's version of the model have it.

        Raises:
            NotReady: It did not (`epoch.unknown`).
        """
        if all(epoch.number != number for epoch in self.newest_first):
            raise NotReady("this version of the model has not the key of the job's epoch", reason="epoch.unknown")

    def announced(self, now_ms: int) -> HeldEpoch | None:
        """What jobs are to be sealed to now, if they can be."""
        if not self.newest_first:
            return None
        newest = self.newest_first[0]
        lasting = [
            epoch for epoch in self.newest_first if epoch.like(newest) and epoch.seal_until_ms - MARGIN_MS > now_ms
        ]
        found = min(lasting, key=lambda epoch: epoch.seal_until_ms, default=newest)
        return found if found.seal_until_ms > now_ms else None

    def drop_ended(self, now_ms: int) -> None:
        """Drop the keys whose time is up: the provisioner destroys them too."""
        self.newest_first = tuple(epoch for epoch in self.newest_first if now_ms < epoch.open_until_ms)


class JobStatements:
    """Says of which key jobs for a model are sealed to, in the words of this worker.

    Args:
        cluster: Trust domain.
        instance: Of this worker.
        receipt_key: Its attested one, which signs.
        now: The verifier's time.
    """

    def __init__(
        self, cluster: str, instance: str, receipt_key: Ed25519PrivateKey, now: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._instance = instance
        self._receipt_key = receipt_key
        self._now = now
        self._ear_id = ""

    def attested(self, ear_id: str) -> None:
        """Speak under this Attestation Result from now on: that of the membership, which clients are shown."""
        self._ear_id = ear_id

    def of(self, model_name: str, epochs: JobEpochs) -> SignedJobEpoch | None:
        """The statement to announce with a model; None where it takes no jobs."""
        epoch = epochs.announced(unix_ms(self._now())) if epochs.newest_first else None
        if epoch is None or not self._ear_id:
            return None
        said = JobEpoch(
            cluster=self._cluster,
            instance=self._instance,
            ear_id=self._ear_id,
            model_name=model_name,
            epoch=epoch.number,
            hpke_suite=epoch.pair.suite,
            hpke_public=epoch.pair.public,
            seal_until_ms=epoch.seal_until_ms,
            open_until_ms=epoch.open_until_ms,
            policy=SignedReleasePolicy(
                policy=epoch.policy, signature=epoch.policy_signature, signer_sets=epoch.signer_sets
            ),
        )
        return sign_epoch(said, self._receipt_key)


def unix_ms(moment: datetime) -> int:
    """Unix time in milliseconds."""
    return int(moment.timestamp() * 1000)


def _held(key: EpochKey, signer_sets: Sequence[bytes]) -> HeldEpoch:
    try:
        pair = KeyPair.from_seed(key.suite, key.seed.view)
    finally:
        key.seed.wipe()
    return HeldEpoch(
        key.epoch,
        pair,
        key.seal_until_ms,
        key.open_until_ms,
        key.policy,
        key.policy_signature,
        tuple(signer_sets),
    )
