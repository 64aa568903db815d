"""A verifier's witness in the same process, reached as over the wire: messages in, messages out."""

from __future__ import annotations

import asyncio
from typing import Any

from cloister.api.v1 import verifier_pb2 as pb
from cloister.errors import Unavailable
from cloister.verifier.witness import Witness
from cloister.verifier.witness_calls import shown, told


class VerifierAtHand:
    """The `Peer` of a witness.

    Attributes:
        up: Whether it answers.
        lose_answers: It does what it is asked, and nobody hears of it.
        knocks: Calls of any kind, answered or not.
    """

    def __init__(self, witness: Witness, address: str = "verifier:1") -> None:
        self.witness = witness
        self.address = address
        self.up = True
        self.lose_answers = False
        self.knocks = 0

    def stub(self, _stub_class: object) -> Any:
        """What has the calls."""
        return self

    async def Witness(self, request: pb.WitnessRequest, *, timeout: float) -> pb.WitnessResponse:  # noqa: ASYNC109
        """See verifier.proto."""
        sent = pb.WitnessRequest.FromString(request.SerializeToString())
        self._check_up()
        cosignature = await self.witness.countersign(shown(sent))
        if self.lose_answers:
            raise Unavailable("the answer was lost")
        return pb.WitnessResponse(cosignature=str(cosignature))

    async def GetWitnessed(
        self,
        request: pb.GetWitnessedRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> pb.GetWitnessedResponse:
        self._check_up()
        await asyncio.sleep(0)
        return told(self.witness.newest())

    def _check_up(self) -> None:
        self.knocks += 1
        if not self.up:
            raise Unavailable("cannot reach it")
