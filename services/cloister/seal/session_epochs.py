"""The key pairs of a worker, one epoch after the other, each with the sessions that were opened with it.

A worker makes a new pair now and then, has it attested, and drops the old one once nothing good can still be sealed to
it. With a pair go its sessions and all that is remembered of them: no key is left that opens what was sealed in that
epoch, and nothing needs to be remembered, because nothing opens. So a replay meets the record of its epoch as long as
there is one, and after that a worker that cannot open it (attacks G16).

The next pair is *expected* before its evidence is on the way, since the verifier may tell everybody else of it before
the worker hears that it is believed. Until then what is sealed to it is put off: a receipt could name no Attestation
Result yet.
"""

from __future__ import annotations

from contextlib import suppress

from cloister.api.v1.seal_pb2 import Recipient
from cloister.errors import NotReady, SealBroken, Unavailable
from cloister.seal import hpke
from cloister.seal import session_keys as keys
from cloister.seal.keys import KEY_BYTES, Secret
from cloister.seal.session_table import Session, SessionTable


class Epoch:
    """One key pair, and the sessions of which it opened the first request.

    Attributes:
        pair: The HPKE key pair.
        table: What is remembered of its sessions.
        ear_id: The Attestation Result that vouches for the key; receipts name it.
        attested: Whether there is one.
    """

    __slots__ = ("attested", "ear_id", "pair", "table")

    def __init__(self, pair: hpke.KeyPair, capacity: int, ear_id: str = "", *, attested: bool = True) -> None:
        self.pair = pair
        self.table = SessionTable(capacity)
        self.ear_id = ear_id
        self.attested = attested


class Epochs:
    """The epochs of one worker; a few at most.

    Args:
        pair: The first key pair.
        cluster: Trust domain.
        instance: Of this worker.
        capacity: How many sessions each epoch holds.
    """

    def __init__(self, pair: hpke.KeyPair, cluster: str, instance: str, capacity: int) -> None:
        self._cluster = cluster
        self._instance = instance
        self._capacity = capacity
        self._newest_first = [Epoch(pair, capacity)]

    def expect(self, pair: hpke.KeyPair) -> None:
        """Have a next key pair, of which others may hear before we do that it is believed."""
        if not self._has(pair.key_id):
            self._newest_first.insert(0, Epoch(pair, self._capacity, attested=False))

    def attest(self, key_id: bytes, ear_id: str) -> None:
        """Note the Attestation Result that vouches for a key: the first of an expected one, or a newer one."""
        for epoch in self._newest_first:
            if epoch.pair.key_id == key_id:
                epoch.ear_id, epoch.attested = ear_id, True

    def drop(self, key_id: bytes) -> None:
        """Drop a key pair with all its sessions; what was sealed to it opens no more."""
        self._newest_first = [epoch for epoch in self._newest_first if epoch.pair.key_id != key_id]

    def find(self, recipient: Recipient) -> tuple[Epoch, Session] | None:
        """The session of a request, if one of the epochs holds it."""
        for epoch in self._newest_first:
            session = epoch.table.find(recipient.session_id)
            if session is not None:
                return epoch, session
        return None

    def open(self, recipient: Recipient, now_ms: int) -> tuple[Epoch, Session]:
        """Open a session that is not held; it is held only once a request in it has opened.

        Raises:
            NotReady: No opening came along, or the session made room (`session.unknown`); or the key that the opening
                names is dropped (`seal.stale`).
            SealBroken: The opening is to none of our keys, or altered.
            Unavailable: It is to a key that is not attested yet (`key.unsettled`).
            Overloaded: Too many sessions were opened lately.
        """
        if not recipient.opening:
            raise NotReady("this worker does not know the session; open another", reason="session.unknown")
        # Who names the key has it tried alone; who does not, as clients before version 2, has each tried.
        named = [epoch for epoch in self._newest_first if recipient.key_id in (b"", epoch.pair.key_id)]
        for epoch in named:
            epoch.table.check_room(recipient.session_id, now_ms)
            with suppress(SealBroken):
                return epoch, self._session(epoch, recipient)
        if not named:
            raise NotReady("the key that this is sealed to has ended; seal to the new one", reason="seal.stale")
        raise SealBroken

    def _session(self, epoch: Epoch, recipient: Recipient) -> Session:
        info = keys.opening_info(self._cluster, self._instance, recipient.session_id)
        secret = Secret(epoch.pair.open(recipient.opening, info))
        if len(secret) != KEY_BYTES:
            raise SealBroken
        if not epoch.attested:
            raise Unavailable("the key is about to be attested; ask again", reason="key.unsettled")
        return Session(keys.wrapping_cipher(secret, recipient.session_id))

    def _has(self, key_id: bytes) -> bool:
        return any(epoch.pair.key_id == key_id for epoch in self._newest_first)
