"""The recovery key of a provisioner, as owners and operators see it: deal it, look at it, give a share back.

An owner's share is opened on the owner's machine and sealed again, to the key of a recovery session. What is believed
then is that whoever answers under the provisioner's TLS identity is the provisioner.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import constant_time

from cloister.api.v1.recovery_pb2 import (
    BeginRecoveryRequest,
    ContributeShareRequest,
    ContributeShareResponse,
    DealRecoveryRequest,
    DealRecoveryResponse,
    GetRecoveryRequest,
    GetRecoveryResponse,
    RecoveryDeal,
    RecoverySession,
)
from cloister.api.v1.recovery_pb2_grpc import RecoveryStub
from cloister.errors import InvalidRequest, NotFound, SealBroken
from cloister.kit.recovery_cards import RecoveryCard
from cloister.rpc.channel import Peer
from cloister.seal.hpke import KeyPair
from cloister.seal.recovery import Share, open_dealt, seal_contributed

CALL_S: Final = 15.0
RESTORE_S: Final = 300.0
"""Every secret is wrapped anew within one call."""
_MEMBERS: Final = {"v", "cluster", "generation", "threshold", "holders", "index", "sealed", "commitment"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShare:
    """One owner's share as it was dealt, for a file of the owner's: it opens with the owner's recovery key only.

    Attributes:
        generation: Of the recovery key.
        threshold: How many shares give the key.
        holders: How many there are.
        index: From 0; which of them.
    """

    cluster: str
    generation: int
    threshold: int
    holders: int
    index: int
    sealed: bytes = field(repr=False)
    commitment: bytes = field(repr=False)

    @classmethod
    def of(cls, deal: RecoveryDeal, cluster: str, public_key: bytes) -> SealedShare:
        """Find the share that was dealt to a recovery key.

        Raises:
            NotFound: None was (`share.not_dealt`).
        """
        for index, (dealt, card) in enumerate(zip(deal.shares, holders_of(deal, cluster), strict=True)):
            if card.public_key == public_key:
                return cls(
                    cluster=cluster,
                    generation=deal.generation,
                    threshold=deal.threshold,
                    holders=len(deal.shares),
                    index=index,
                    sealed=dealt.sealed,
                    commitment=dealt.commitment,
                )
        raise NotFound("no share was dealt to this recovery key", reason="share.not_dealt")

    @classmethod
    def read(cls, raw: bytes) -> SealedShare:
        """Read a share's file.

        Raises:
            InvalidRequest: It is none (`share.malformed`).
        """
        try:
            members = json.loads(raw)
            if not isinstance(members, dict) or members.keys() != _MEMBERS or members.pop("v") != 1:
                raise ValueError("its members are not those of a share")
            sealed, commitment = (b64decode(members.pop(name), validate=True) for name in ("sealed", "commitment"))
            numbers = {name: members[name] for name in ("generation", "threshold", "holders", "index")}
            if any(type(number) is not int or number < 0 for number in numbers.values()):
                raise ValueError("a number in it is none")
            return cls(cluster=str(members["cluster"]), sealed=sealed, commitment=commitment, **numbers)
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"this is no file of a recovery share: {error}", reason="share.malformed") from error

    def written(self) -> bytes:
        """As `read` reads it."""
        said = {
            "v": 1,
            "cluster": self.cluster,
            "generation": self.generation,
            "threshold": self.threshold,
            "holders": self.holders,
            "index": self.index,
            "sealed": b64encode(self.sealed).decode(),
            "commitment": b64encode(self.commitment).decode(),
        }
        return json.dumps(said, indent=2).encode() + b"\n"

    def opened(self, pair: KeyPair) -> Share:
        """The share itself, found to be the one that was dealt.

        Raises:
            SealBroken: It is not for this recovery key, or was altered.
        """
        share = open_dealt(pair, self.sealed, cluster=self.cluster, generation=self.generation, index=self.index)
        if not constant_time.bytes_eq(share.commitment(), self.commitment):
            share.words.wipe()
            raise SealBroken
        return share


def holders_of(deal: RecoveryDeal, cluster: str) -> list[RecoveryCard]:
    """Who holds shares, by cards whose signatures hold; raises InvalidRequest for one whose does not."""
    return [RecoveryCard.read(share.card, cluster=cluster) for share in deal.shares]


async def deal(
    provisioner: Peer, cards: Sequence[bytes], threshold: int, order: bytes = b"", timeout_s: float = RESTORE_S
) -> DealRecoveryResponse:
    """Have a recovery key made and its shares dealt to these cards. Role: operator.

    Raises:
        InvalidRequest: A card is none, or the threshold does not fit.
        NotAllowed: Its holders have not ordered another recovery key, or all owners of models the first one.
    """
    request = DealRecoveryRequest(cards=cards, threshold=threshold, order=order)
    answer: DealRecoveryResponse = await provisioner.stub(RecoveryStub).DealRecovery(request, timeout=timeout_s)
    return answer


async def recovery_of(provisioner: Peer, timeout_s: float = CALL_S) -> GetRecoveryResponse:
    """Who holds shares, and whether they are needed. Roles: owner, operator, auditor."""
    stub = provisioner.stub(RecoveryStub)
    answer: GetRecoveryResponse = await stub.GetRecovery(GetRecoveryRequest(), timeout=timeout_s)
    return answer


async def begin(provisioner: Peer, timeout_s: float = CALL_S) -> RecoverySession:
    """The recovery session that there is, or a new one. Roles: owner, operator.

    Raises:
        NotReady: No root key is lost (`recovery.not_needed`).
        Overloaded: One ended with too many refusals a moment ago.
    """
    stub = provisioner.stub(RecoveryStub)
    answer: RecoverySession = await stub.BeginRecovery(BeginRecoveryRequest(), timeout=timeout_s)
    return answer


async def contribute(
    provisioner: Peer, session: RecoverySession, share: Share, timeout_s: float = RESTORE_S
) -> ContributeShareResponse:
    """Give a share to a session; the last that was missing restores everything. Role: owner.

    Raises:
        InvalidRequest: It is no share of this recovery key (`share.wrong`, ...), or there already (`share.given`).
        NotReady: The session has ended.
    """
    sealed = seal_contributed(session.public_key, share, session.session_id)
    request = ContributeShareRequest(session_id=session.session_id, sealed_share=sealed)
    stub = provisioner.stub(RecoveryStub)
    answer: ContributeShareResponse = await stub.ContributeShare(request, timeout=timeout_s)
    return answer
