"""Owners with recovery keys, and a recovery key dealt to them without a provisioner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.recovery_pb2 import DealtShare, RecoveryDeal
from cloister.kit.recovery_cards import card
from cloister.provisioner.recovery.shares import split
from cloister.rpc.spiffe import SpiffeId
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.recovery import Share, open_dealt, seal_contributed, seal_dealt

CLUSTER = "test.cloister.internal"


@dataclass
class Holder:
    """One owner."""

    name: str
    cluster: str = CLUSTER
    pair: KeyPair = field(default_factory=KeyPair.generate)
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def card(self) -> bytes:
        return card(SpiffeId(self.cluster, "owner", self.name), self.pair.public, self.key)

    @property
    def signing_key(self) -> str:
        return self.key.public_key().public_bytes_raw().hex()

    def share(self, deal: RecoveryDeal) -> Share:
        """What was dealt to this owner."""
        (index,) = [at for at, share in enumerate(deal.shares) if share.card == self.card]
        sealed = deal.shares[index].sealed
        return open_dealt(self.pair, sealed, cluster=self.cluster, generation=deal.generation, index=index)


def holders(*names: str, cluster: str = CLUSTER) -> list[Holder]:
    return [Holder(name, cluster) for name in names or ("alice", "bob", "carol")]


def dealt(
    to: Sequence[Holder], threshold: int = 2, *, generation: int = 1, cluster: str = CLUSTER
) -> tuple[RecoveryDeal, Secret]:
    """A deal as a provisioner makes it, and the seed that it wiped."""
    seed = Secret.random()
    deal = RecoveryDeal(
        generation=generation, threshold=threshold, public_key=KeyPair.from_seed(XWING, seed.view).public
    )
    for index, (holder, words) in enumerate(zip(to, split(seed, threshold, len(to)), strict=True)):
        share = Share(cluster=cluster, generation=generation, index=index, words=words)
        sealed = seal_dealt(holder.pair.public, share)
        deal.shares.append(DealtShare(card=holder.card, sealed=sealed, commitment=share.commitment()))
    return deal, seed


def contribution(session_id: bytes, public: bytes, share: Share, **changes: object) -> bytes:
    """A share as it goes to a session; changed, where that is to be refused."""
    return seal_contributed(public, replace(share, **changes), session_id)  # type: ignore[arg-type]
