"""Challenges that any replica may consume, whichever issued them; each of them once.

Redis takes a challenge out in the same step in which the use of it enters the stream, so of any number of uses at any
replicas one gets the record. What then counts is what the record says under its seal, and what this replica's journal
knows: whatever Redis has become in the meantime, a challenge that was used or is too old does not pass.
"""

from __future__ import annotations

import hashlib
import secrets

import cbor2

from cloister.errors import SealBroken
from cloister.verifier.nonces import (
    CHALLENGE_ID_BYTES,
    NONCE_BYTES,
    Challenge,
    Purpose,
    check_spki_sha256,
    expired,
)
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.entries import Kind
from cloister.verifier.replicas.journal import Sight
from cloister.verifier.replicas.link import Link
from cloister.verifier.replicas.runner import Runner
from cloister.verifier.replicas.sealing import RecordSeal


class SharedNonces:
    """The `Challenges` of several replicas.

    Args:
        capacity: Most challenges held in all; whoever holds most loses the oldest.
        per_peer: Most challenges held for one SPIFFE id.
    """

    def __init__(
        self, link: Link, runner: Runner, seal: RecordSeal, *, capacity: int = 65_536, per_peer: int = 1024
    ) -> None:
        self._link = link
        self._runner = runner
        self._seal = seal
        self._capacity = capacity
        self._per_peer = per_peer

    @property
    def ttl_s(self) -> float:
        """How long a challenge may be used, in seconds."""
        return self._link.ttl_s

    async def issue(self, purpose: Purpose, *, peer: str, tls_spki_sha256: bytes) -> Challenge:
        """See `Challenges`; raises Unavailable too."""
        check_spki_sha256(tls_spki_sha256)
        challenge = Challenge(
            challenge_id=secrets.token_bytes(CHALLENGE_ID_BYTES),
            nonce=secrets.token_bytes(NONCE_BYTES),
            purpose=purpose,
            peer=peer,
            tls_spki_sha256=tls_spki_sha256,
        )
        await self._link.call(
            scripts.ISSUE,
            challenge.challenge_id.hex(),
            self._seal.seal(_place(challenge.challenge_id), _written(challenge, self._link.journal.sight())),
            int(self.ttl_s * 1000),
            _name(peer),
            self._capacity,
            self._per_peer,
        )
        return challenge

    async def consume(self, challenge_id: bytes, *, peer: str, tls_spki_sha256: bytes) -> Challenge:
        """See `Challenges`; raises Unavailable too."""
        if len(challenge_id) != CHALLENGE_ID_BYTES:
            raise expired()
        journal = self._link.journal
        journal.check_unused(challenge_id)
        number, record = await self._link.write(
            scripts.CONSUME, Kind.USED, challenge_id, challenge_id.hex(), _name(peer)
        )
        if record is None or self._link.journal is not journal:
            raise expired()
        journal.use(challenge_id, journal.session, number)
        challenge, sight = self._opened(challenge_id, record)
        journal.check_fresh(sight)
        if challenge.peer != peer or challenge.tls_spki_sha256 != tls_spki_sha256:
            raise expired()
        return challenge

    def _opened(self, challenge_id: bytes, record: bytes) -> tuple[Challenge, Sight]:
        try:
            return _read(challenge_id, self._seal.open(_place(challenge_id), record))
        except SealBroken as error:
            self._runner.refused(error.reason, what="challenge")
            raise expired() from error


def _place(challenge_id: bytes) -> str:
    return f"challenge {challenge_id.hex()}"


def _name(peer: str) -> str:
    """What Redis knows a peer by."""
    return hashlib.sha256(peer.encode()).hexdigest()[:32]


def _written(challenge: Challenge, sight: Sight) -> bytes:
    fields = [challenge.nonce, challenge.purpose.value, challenge.peer, challenge.tls_spki_sha256, dict(sight)]
    return cbor2.dumps(fields)


def _read(challenge_id: bytes, record: bytes) -> tuple[Challenge, Sight]:
    nonce, purpose, peer, tls_spki_sha256, sight = cbor2.loads(record)
    made = Challenge(
        challenge_id=challenge_id,
        nonce=nonce,
        purpose=Purpose(purpose),
        peer=peer,
        tls_spki_sha256=tls_spki_sha256,
    )
    return made, sight
