"""The verifier's keys as a relying party knows them: pinned one by one, or learned from sets that are signed.

A token by a key that is not known is worth one look for a newer set, and no more than one in ten seconds: who sends
tokens by keys of their own makes us ask nobody more often than that (attacks E08, E09). Called on the event loop; the
key set itself may be read from any thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from cloister import ear
from cloister.api.v1.verifier_pb2 import GetKeysRequest
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import KeySet
from cloister.errors import CloisterError
from cloister.kit.key_set import KeySigners, SignedKeySet
from cloister.kit.log import get_logger
from cloister.rpc.channel import Peer

LOOK_EVERY_S: Final = 10.0
CALL_S: Final = 5.0
_log = get_logger()


class LearnedKeys:
    """Keys from signed sets, the newest that was seen.

    Args:
        signers: Who may say which keys they are.
        issuer: SPIFFE id of the verifier.
        first: The set to begin with.
        monotonic: A clock that never goes back, in seconds.

    Raises:
        InvalidRequest: `first` is not signed as it must be.
    """

    def __init__(self, signers: KeySigners, issuer: str, first: bytes, *, monotonic: Callable[[], float]) -> None:
        self._signers = signers
        self._issuer = issuer
        self._newest = SignedKeySet.read(first, signers, issuer=issuer)
        self._monotonic = monotonic
        self._looked_at_s: float | None = None

    @property
    def keys(self) -> KeySet:
        """The keys that count."""
        return self._newest.keys

    @property
    def newest(self) -> SignedKeySet:
        """The set they are from."""
        return self._newest

    def learn(self, envelope: bytes) -> bool:
        """Take over a newer set; say whether it was one.

        Raises:
            InvalidRequest: It is not signed as it must be; what was known stays.
        """
        if not envelope or envelope == self._newest.raw:
            return False
        found = SignedKeySet.read(envelope, self._signers, issuer=self._issuer)
        if found.version <= self._newest.version:
            return False
        self._newest = found
        _log.info("verifier_keys.learned", version=found.version, kids=sorted(found.keys.thumbprints))
        return True

    async def look_for(self, token: str, fetch: Callable[[], Awaitable[bytes]]) -> None:
        """Ask for a newer set if `token` is by a key that is not known, unless somebody asked just now.

        What cannot be fetched, or is not signed as it must be, is logged and changes nothing: the token is refused.

        Args:
            token: An Attestation Result, not checked yet.
            fetch: Asks the verifier for its signed set, within a deadline.
        """
        if self.knows(token):
            return
        now_s = self._monotonic()
        if self._looked_at_s is not None and now_s - self._looked_at_s < LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        try:
            self.learn(await fetch())
        except (CloisterError, TimeoutError) as error:
            _log.warning("verifier_keys.not_learned", error=error)

    def knows(self, token: str) -> bool:
        """Whether the key that a token says it is signed with is one of ours; true of what is no token at all."""
        try:
            return self.keys.named(ear.key_named(token)) is not None
        except CloisterError:
            return True  # no reason to ask anybody: whoever checks it will say what it is


async def fetch_key_set(verifier: Peer) -> bytes:
    """Ask a verifier for its signed key set; not believed yet."""
    # The generated stub is typed for the synchronous API; called on an aio channel it returns awaitables.
    stub: Any = verifier.stub(VerifierStub)
    answer = await stub.GetKeys(GetKeysRequest(), timeout=CALL_S)
    return bytes(answer.key_set)
