"""Who is to hold shares of a recovery key, and what the holders sign so that another key may be dealt. Pure.

A card is what an owner gives to the operator who deals: the public key that a share is to be sealed to, signed with the
owner's signing key. So the operator cannot put a key of their own in its place under the owner's name. An order names
the next dealing whole: which generation, how many shares are needed, and whose cards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.errors import InvalidRequest
from cloister.rpc.spiffe import SpiffeId
from cloister.seal.hpke import PUBLIC_BYTES, XWING
from cloister.seal.recovery import MAX_SHARES

CARD_TYPE: Final = "application/vnd.cloister.recovery-card+json"
ORDER_TYPE: Final = "application/vnd.cloister.recovery-order+json"
MAX_CARD_BYTES: Final = 16 << 10
MAX_ORDERING: Final = 1024
"""Who may sign one order: the first takes all owners of models. It must fit into one message."""
_MEMBERS: Final = {"cluster", "owner", "suite", "public_key"}
_REASON: Final = "recovery_card.refused"


@dataclass(frozen=True, slots=True)
class RecoveryCard:
    """An owner's card that was found signed.

    Attributes:
        owner: SPIFFE id, as the owner says.
        signing_key: Who signed it: Ed25519 public key in hex.
        public_key: What shares are sealed to: X-Wing.
        envelope: The card as it was made.
    """

    owner: str
    signing_key: str
    public_key: bytes = field(repr=False)
    envelope: bytes = field(repr=False)

    @classmethod
    def read(cls, envelope: bytes, *, cluster: str) -> RecoveryCard:
        """Read a card.

        Raises:
            InvalidRequest: It is not one, is another mesh's, or not signed by one key (`recovery_card.refused`).
        """
        if len(envelope) > MAX_CARD_BYTES:
            raise InvalidRequest("no recovery card: it is too large", reason=_REASON)
        try:
            payload, signers = dsse.payload(envelope, CARD_TYPE), dsse.signers(envelope, CARD_TYPE)
            members = json.loads(payload)
            if not isinstance(members, dict) or members.keys() != _MEMBERS or members["suite"] != XWING:
                raise ValueError("it has other members than a card of this version")
            owner, public = SpiffeId.parse(str(members["owner"])), bytes.fromhex(str(members["public_key"]))
        except (InvalidRequest, ValueError, RecursionError) as error:
            raise InvalidRequest(f"no recovery card: {error}", reason=_REASON) from error
        if members["cluster"] != cluster or (owner.cluster, owner.role) != (cluster, "owner"):
            raise InvalidRequest("the recovery card is of no owner of this mesh", reason=_REASON)
        if len(signers) != 1 or len(public) != PUBLIC_BYTES[XWING]:
            raise InvalidRequest("the recovery card is not signed by its owner, or holds no key", reason=_REASON)
        return cls(str(owner), next(iter(signers)), public, envelope)

    def digest(self) -> str:
        """What orders call it by: SHA-256, in hex, of who signed it and what shares are sealed to."""
        return hashlib.sha256(bytes.fromhex(self.signing_key) + self.public_key).hexdigest()


def card(owner: SpiffeId, public_key: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return an owner's card.

    Args:
        owner: Whose it is.
        public_key: What shares are to be sealed to: X-Wing.
        key: The owner's signing key.
    """
    said = {"cluster": owner.cluster, "owner": str(owner), "suite": XWING, "public_key": public_key.hex()}
    return dsse.sign(json.dumps(said, sort_keys=True, separators=(",", ":")).encode(), CARD_TYPE, [key])


def check_holders(cards: Sequence[RecoveryCard], threshold: int) -> None:
    """Check that shares can be dealt to these.

    Raises:
        InvalidRequest: There are too many, the threshold does not fit, or two are of one owner or key
            (`recovery.holders_unfit`).
    """
    count = len(cards)
    if not 1 <= threshold <= count <= MAX_SHARES or (threshold == 1 and count > 1):
        raise _unfit(
            f"{threshold} of {count} cannot be dealt: 2 of 2 up to {MAX_SHARES} of {MAX_SHARES}, or 1 of 1; where one "
            "share is enough, each holder alone could open everything"
        )
    for what, values in (
        ("owner", {each.owner for each in cards}),
        ("signing key", {each.signing_key for each in cards}),
        ("recovery key", {each.public_key for each in cards}),
    ):
        if len(values) < count:
            raise _unfit(f"two of the recovery cards are of one {what}; each holder has one share")


def deal_order(cluster: str, generation: int, threshold: int, cards: Sequence[RecoveryCard]) -> bytes:
    """What holders of the present recovery key sign to have the next one dealt.

    Args:
        cluster: The mesh.
        generation: Of the next key.
        threshold: How many of its shares will be needed.
        cards: Whose they will be.
    """
    said = {
        "cluster": cluster,
        "generation": generation,
        "threshold": threshold,
        "cards": sorted(each.digest() for each in cards),
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest(why, reason="recovery.holders_unfit")
