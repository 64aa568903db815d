"""What relying parties hear of trust: revocations and the verifier's keys, whenever they change, and a sign of life.

Each event carries the number of the one before plus one, and each list is whole, so a watcher that has missed nothing
knows everything. A sign of life comes each second: who has heard none for a while knows that it may be missing
something, and fails closed (attacks H05). A worker hears of itself only; what it is, it shows by its own Attestation
Result, which we have signed, so this works past a restart of the verifier, which forgets its members.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import suppress
from typing import Final

from cloister import ear
from cloister.api.v1 import verifier_pb2 as pb
from cloister.ear import KeySet
from cloister.errors import EvidenceRejected, Overloaded
from cloister.kit.revocation import KIND_NUMBERS, Kind, Name, Names, names_of
from cloister.rpc.identity import PeerIdentity
from cloister.rpc.spiffe import WORKER
from cloister.verifier.lift_orders import milliseconds
from cloister.verifier.mesh_ca import MAX_LIFE
from cloister.verifier.nonces import Purpose
from cloister.verifier.revocations import Revocations
from cloister.verifier.rulings import Revocation

SIGN_OF_LIFE_S: Final = 1.0
MAX_WATCHERS: Final = 20_000


class TrustWatch:
    """Tells each watcher what concerns it.

    Args:
        revocations: In force.
        key_set: The keys that our results are signed by, as their signers vouch for them.
        own_keys: The same, to check what workers show.
        issuer: Our own SPIFFE id.
    """

    def __init__(
        self,
        revocations: Revocations,
        *,
        key_set: Callable[[], bytes],
        own_keys: Callable[[], KeySet],
        issuer: str,
    ) -> None:
        self._revocations = revocations
        self._key_set = key_set
        self._own_keys = own_keys
        self._issuer = issuer
        self._watchers = 0

    async def events(
        self, peer: PeerIdentity, attestation_result: str, *, sign_of_life_s: float = SIGN_OF_LIFE_S
    ) -> AsyncGenerator[pb.TrustEvent, None]:
        """Everything first, then each change; for as long as somebody listens.

        Raises:
            EvidenceRejected: A worker shows a result that is not its own.
            Overloaded: Too many are watching.
            Unavailable: This service is going.
        """
        if self._watchers >= MAX_WATCHERS:
            raise Overloaded("too many are watching", reason="watchers.full")
        about = self._about(peer, attestation_result) if peer.role == WORKER else None
        sequence, told = 0, (0, b"")
        self._watchers += 1
        try:
            while True:
                sequence += 1
                known = (self._revocations.version, self._key_set())
                if known == told:
                    yield pb.TrustEvent(sequence=sequence)
                else:
                    listed = _listed(self._revocations.names, about)
                    yield pb.TrustEvent(sequence=sequence, listed=True, revocations=listed, key_set=known[1])
                told = known
                with suppress(TimeoutError):
                    async with asyncio.timeout(sign_of_life_s):
                        await self._revocations.changed(told[0])
        finally:
            self._watchers -= 1

    def _about(self, peer: PeerIdentity, token: str) -> Names:
        if not token:
            return (Name(Kind.INSTANCE, peer.name),)
        result = ear.check(
            token, self._own_keys(), issuer=self._issuer, audience=Purpose.MESH.audience, now=None, max_life=MAX_LIFE
        )
        if result.spiffe_id != peer.spiffe_id or result.instance != peer.name:
            raise EvidenceRejected("the Attestation Result is another's", reason="peer.other")
        return names_of(result)


def described(revocation: Revocation) -> pb.Revocation:
    """All of a revocation, for people."""
    return pb.Revocation(
        kind=KIND_NUMBERS[revocation.name.kind],
        value=revocation.name.value,
        reason=revocation.reason,
        by=revocation.by,
        revoked_at_ms=milliseconds(revocation.revoked_at),
        ends_at_ms=milliseconds(revocation.ends_at) if revocation.ends_at is not None else 0,
    )


def _listed(names: Collection[Name], about: Names | None) -> list[pb.Revocation]:
    """What a watcher hears; `about` limits it to one worker."""
    heard = names if about is None else [name for name in about if name in names]
    return [pb.Revocation(kind=KIND_NUMBERS[name.kind], value=name.value) for name in sorted(heard, key=str)]
