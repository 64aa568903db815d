"""The calls of recovery, while the provisioner serves and while it waits for shares. `ROLES` says who may call them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import grpc
import grpc.aio

from cloister.api.v1 import recovery_pb2 as pb
from cloister.api.v1.recovery_pb2_grpc import RecoveryServicer as Base
from cloister.errors import NotReady
from cloister.kit.server import current_peer
from cloister.provisioner.recovery.dealing import Recovery
from cloister.provisioner.recovery.recovering import Recovering
from cloister.provisioner.vaults.keyring import UNKNOWN
from cloister.provisioner.witnesses.witnessed import Witnessed

SERVICE: Final = "cloister.api.v1.Recovery"
ROLES: Final[Mapping[str, set[str]]] = {
    f"/{SERVICE}/DealRecovery": {"operator"},
    f"/{SERVICE}/GetRecovery": {"owner", "operator", "auditor"},
    f"/{SERVICE}/BeginRecovery": {"owner", "operator"},
    f"/{SERVICE}/ContributeShare": {"owner"},
}

_Context = grpc.aio.ServicerContext[object, object]


class RecoveryServicer(Base):
    """Serves `cloister.api.v1.Recovery` while the root key is there."""

    def __init__(self, recovery: Recovery, witnessed: Witnessed) -> None:
        self._recovery = recovery
        self._witnessed = witnessed

    async def DealRecovery(self, request: pb.DealRecoveryRequest, context: _Context) -> pb.DealRecoveryResponse:
        """Make a recovery key, and deal its shares."""
        deal, peer = self._recovery.deal, current_peer().spiffe_id
        dealt = await asyncio.to_thread(deal, request.cards, request.threshold, request.order, by=peer)
        await self._witnessed.witnessed(dealt.sequence)
        return pb.DealRecoveryResponse(
            generation=dealt.generation, secrets=dealt.secrets, audit_sequence=dealt.sequence
        )

    async def GetRecovery(self, request: pb.GetRecoveryRequest, context: _Context) -> pb.GetRecoveryResponse:
        """Who holds shares."""
        deal = await asyncio.to_thread(self._recovery.present)
        secrets = await asyncio.to_thread(self._recovery.secrets)
        return pb.GetRecoveryResponse(deal=deal if deal.generation else None, secrets=secrets)

    async def BeginRecovery(self, request: pb.BeginRecoveryRequest, context: _Context) -> pb.RecoverySession:
        """Nothing is to be restored."""
        raise _not_needed()

    async def ContributeShare(
        self, request: pb.ContributeShareRequest, context: _Context
    ) -> pb.ContributeShareResponse:
        """Nothing is to be restored."""
        raise _not_needed()


class RecoveringServicer(Base):
    """Serves it while the root key is lost.

    Attributes:
        restored: Set when everything is.
    """

    def __init__(self, recovering: Recovering) -> None:
        self._recovering = recovering
        self.restored = asyncio.Event()

    async def DealRecovery(self, request: pb.DealRecoveryRequest, context: _Context) -> pb.DealRecoveryResponse:
        """What is kept has to be opened first."""
        raise lost()

    async def GetRecovery(self, request: pb.GetRecoveryRequest, context: _Context) -> pb.GetRecoveryResponse:
        """Who holds shares, and how far it has come."""
        return await asyncio.to_thread(self._recovering.state)

    async def BeginRecovery(self, request: pb.BeginRecoveryRequest, context: _Context) -> pb.RecoverySession:
        """The session that there is, or a new one."""
        return await asyncio.to_thread(self._recovering.begin, current_peer().spiffe_id)

    async def ContributeShare(
        self, request: pb.ContributeShareRequest, context: _Context
    ) -> pb.ContributeShareResponse:
        """One share."""
        contribute, peer = self._recovering.contribute, current_peer().spiffe_id
        answer = await asyncio.to_thread(contribute, peer, request.session_id, request.sealed_share)
        if answer.restored:
            self.restored.set()
        return answer


def lost() -> NotReady:
    """What a call hears that needs the root key."""
    return NotReady(
        "the stored keys were wrapped under a root key that is not here; nothing is served until enough owners have "
        "given their shares ('cloister recovery restore'), or the right root key is put back",
        reason=UNKNOWN,
    )


def _not_needed() -> NotReady:
    return NotReady("the root key is there: there is nothing to restore", reason="recovery.not_needed")
