"""What a relying party has heard from the verifier: revocations and keys, and how long ago (attacks E11, H05).

`follow` listens for as long as the service runs. The last list stays in force while the verifier cannot be heard:
nothing that was revoked is believed for want of news. Whether to go on for long without news is the service's choice,
which asks `check_heard`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import CloisterError, InvalidRequest, NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.kit.revocation import Name, kind_of
from cloister.rpc.channel import STREAM_S, Peer

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 2.0
_log = get_logger()


class TrustFeed:
    """Follows one verifier. Called on the event loop; `revoked` may be read from any thread.

    Args:
        monotonic: A clock that never goes back, in seconds.
        silence_s: How long without a sign of life the stream is believed to be whole; then it is begun anew.
        learn: Gets the signed key set whenever it comes.
        heard: Called after each new list.

    Attributes:
        revoked: What is revoked, as told last.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        silence_s: float,
        learn: Callable[[bytes], object] = lambda _: None,
        heard: Callable[[], object] = lambda: None,
    ) -> None:
        self.revoked: frozenset[Name] = frozenset()
        self._monotonic = monotonic
        self._silence_s = silence_s
        self._learn = learn
        self._heard = heard
        self._heard_at_s: float | None = None

    def check_heard(self, within_s: float) -> None:
        """Raise unless the verifier has been heard of late.

        Raises:
            NotReady: It has not (`revocations.unheard`): something may be revoked that we do not know of.
        """
        if self._heard_at_s is None or self._monotonic() - self._heard_at_s > within_s:
            raise NotReady(
                "the verifier has not said for too long what is revoked; it must be reachable first",
                reason="revocations.unheard",
            )

    async def follow(self, verifier: Peer, token: Callable[[], str] = lambda: "") -> None:
        """Listen, again and again, for as long as the service runs.

        Args:
            verifier: Whom to ask.
            token: A worker's own Attestation Result.
        """
        pause_s, said = FIRST_PAUSE_S, ""
        while True:
            began_s = self._monotonic()
            try:
                await self._listen(verifier, token())
            except (CloisterError, TimeoutError) as error:
                if str(error) != said:  # a verifier that is away is asked until it comes back
                    _log.warning("trust.unheard", error=error)
                said = str(error)
            steady = self._monotonic() - began_s >= LAST_PAUSE_S
            pause_s = FIRST_PAUSE_S if steady else min(pause_s * 2, LAST_PAUSE_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret

    async def _listen(self, verifier: Peer, token: str) -> None:
        request = pb.WatchTrustRequest(attestation_result=token)
        events: Any = verifier.stub(VerifierStub).WatchTrust(request, timeout=STREAM_S)
        sequence = 0
        try:
            while True:
                async with asyncio.timeout(self._silence_s):
                    event = await anext(events)
                sequence += 1
                if event.sequence != sequence:
                    raise InvalidRequest("an event of the verifier's is missing", reason="trust.gap")
                self._take(event)
        except StopAsyncIteration:
            raise Unavailable("the verifier ended its events") from None
        finally:
            events.cancel()

    def _take(self, event: pb.TrustEvent) -> None:
        if event.listed:
            self._learn_keys(event.key_set)
            self.revoked = frozenset(_name(each) for each in event.revocations)
        self._heard_at_s = self._monotonic()
        if event.listed:
            self._heard()

    def _learn_keys(self, key_set: bytes) -> None:
        try:
            self._learn(key_set)
        except InvalidRequest as error:
            _log.error("verifier_keys.refused", error=error)


def _name(revocation: pb.Revocation) -> Name:
    return Name.read(kind_of(revocation.kind), revocation.value)
