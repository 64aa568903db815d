"""The verifier, followed: what it revokes, and the keys that it signs with. Wired here, as the settings have it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.kit.key_set import KeySigners
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.trust_feed import TrustFeed
from cloister.kit.verifier_keys import LearnedKeys, fetch_key_set
from cloister.provisioner.releases.revoked import Followed, Standing, Unfollowed
from cloister.provisioner.releases.verifier_keys import PinnedKeys, SignedKeys, VerifierKeys
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import SpiffeId, server_name

KEPT: Final = "verifier-keys.json"

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """The verifier whose results are believed, as the settings name it.

    Attributes:
        spiffe_id: Its own.
        address: host:port, to follow it; empty for not following it.
        silence_s: How long without a sign of life from it keys are still released.
        keys: File of its keys.
        thumbprints: Of the keys that count, where nobody signs for them.
        key_signers: Who signs for them; None for nobody.
    """

    spiffe_id: SpiffeId
    address: str
    silence_s: float
    keys: Path
    thumbprints: tuple[str, ...]
    key_signers: KeySigners | None


@dataclass(frozen=True, slots=True)
class Following:
    """What a release is judged by.

    Attributes:
        keys: The verifier's.
        look_for_keys: Gets a token by a key that may be new.
        standing: Whether a result counts still.
    """

    keys: VerifierKeys
    look_for_keys: Callable[[str], Awaitable[None]]
    standing: Standing


@asynccontextmanager
async def following(
    verifier: Verifier, folder: Path, identity: TlsIdentity, lifecycle: Lifecycle
) -> AsyncIterator[Following]:
    """Follow the verifier, if it is to be followed.

    Args:
        verifier: Which.
        folder: State of this service; keeps the newest set of keys.
        identity: As whom the verifier is asked.
        lifecycle: Of this process.

    Raises:
        NotReady: The file of the verifier's keys is not usable.
    """
    keys, learned = _keys(verifier, folder)
    if not verifier.address:
        _log.warning("verifier.unfollowed", meaning="what is revoked stays good for the five minutes of a result")
        yield Following(keys, _no_look, Unfollowed())
        return
    name = server_name(verifier.spiffe_id.cluster, "verifier")
    async with Peer(verifier.address, identity, name) as peer:

        async def look(token: str) -> None:
            if learned is not None:
                await learned.look_for(token, lambda: fetch_key_set(peer))

        learn = learned.learn if learned is not None else _no_learning
        feed = TrustFeed(monotonic=time.monotonic, silence_s=verifier.silence_s / 2, learn=learn)
        task = lifecycle.spawn(feed.follow(peer), "verifier.following")
        try:
            yield Following(keys, look, Followed(feed, silence_s=verifier.silence_s))
        finally:
            task.cancel()


def _keys(verifier: Verifier, folder: Path) -> tuple[VerifierKeys, LearnedKeys | None]:
    signers = verifier.key_signers
    if signers is None:
        return PinnedKeys(verifier.keys, verifier.thumbprints), None

    def learn(first: bytes) -> LearnedKeys:
        return LearnedKeys(signers, str(verifier.spiffe_id), first, monotonic=time.monotonic)

    signed = SignedKeys(verifier.keys, learn, folder / KEPT)
    return signed, signed.learned


async def _no_look(_token: str) -> None:
    """Nobody to ask."""


def _no_learning(_key_set: bytes) -> None:
    """Keys are pinned one by one."""
