"""When a worker's HPKE key is replaced, and when the old one is dropped (attacks G16, J08).

The key is made anew with a renewed membership: fresh evidence and a fresh Attestation Result name it. The one before it
opens for an overlap still, since requests are on the way that were sealed to it, and then it is dropped with all its
sessions: nobody can open any more what was sealed in that epoch, nor can whoever takes this enclave's memory later.

A key serves for at least one overlap, however often memberships are renewed. So there are two at most, and one that
is on its way to be attested. And none opens for longer than the Attestation Result lasts that vouches for it: receipts
name that one, and hold for as long as it does.

The overlap is counted on the host's time (see `clock`). A host that slows it keeps the old key for longer, until the
next new one: then every key but the one before it goes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloister.kit.log import get_logger
from cloister.seal.hpke import KeyPair
from cloister.seal.session_epochs import Epochs

_log = get_logger()


class KeyRotation:
    """The HPKE keys of one worker, in turn.

    Args:
        first: The key pair to begin with.
        epochs: Opens what is sealed to them.
        overlap_s: How long a key opens once there is a newer one, and how long it serves at least before that.
        counter_s: The worker's counter.
    """

    def __init__(self, first: KeyPair, epochs: Epochs, *, overlap_s: float, counter_s: Callable[[], float]) -> None:
        self._current = first
        self._next: KeyPair | None = None
        self._old: KeyPair | None = None
        self._epochs = epochs
        self._overlap_s = overlap_s
        self._counter_s = counter_s
        self._began_s = self._result_ends_s = counter_s()
        self._old_ends_s = 0.0
        self._replaced = asyncio.Event()

    def offered(self) -> KeyPair:
        """The key pair to have attested now: the one in use, or the next if that has served for long enough.

        The next one is the same until it is attested. A verifier that believed it may have told others already, though
        its answer to us was lost.
        """
        if self._next is None and self._counter_s() - self._began_s < self._overlap_s:
            return self._current
        if self._next is None:
            self._next = KeyPair.generate(self._current.suite)
            self._epochs.expect(self._next)
        return self._next

    def attested(self, pair: KeyPair, ear_id: str, life_s: float) -> None:
        """Note that a key pair from `offered` is believed.

        Args:
            pair: Which.
            ear_id: The Attestation Result that vouches for it.
            life_s: How long that lasts from now on.
        """
        now_s = self._counter_s()
        self._epochs.attest(pair.key_id, ear_id)
        if pair is self._next:
            self._drop_old()
            self._old, self._current, self._next = self._current, pair, None
            self._old_ends_s = min(now_s + self._overlap_s, self._result_ends_s)
            self._began_s = now_s
            self._replaced.set()
            _log.info("key.replaced", key=pair.key_id.hex(), before=self._old.key_id.hex())
        if pair is self._current:
            self._result_ends_s = now_s + life_s

    def drop_ended(self) -> float | None:
        """Drop the key before this one if its time is up.

        Returns:
            Seconds until it is; None where there is none.
        """
        left_s = self._old_ends_s - self._counter_s()
        if self._old is not None and left_s <= 0:
            self._drop_old()
        return left_s if self._old is not None else None

    async def dropping(self) -> None:
        """Drop each key in time, for as long as the worker runs."""
        while True:
            self._replaced.clear()
            left_s = self.drop_ended()
            try:
                async with asyncio.timeout(left_s):
                    await self._replaced.wait()
            except TimeoutError:
                continue

    def _drop_old(self) -> None:
        if self._old is not None:
            self._epochs.drop(self._old.key_id)
            _log.info("key.dropped", key=self._old.key_id.hex())
            self._old = None
