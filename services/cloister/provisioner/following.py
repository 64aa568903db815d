"""The verifier, followed: what it revokes, and the keys that it signs with. Chosen by the settings, wired here."""

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
from cloister.provisioner.revoked import Followed, Standing, Unfollowed
from cloister.provisioner.settings import Settings
from cloister.provisioner.verifier_keys import PinnedKeys, SignedKeys, VerifierKeys
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

KEPT: Final = "verifier-keys.json"

_log = get_logger()


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
    settings: Settings, folder: Path, identity: TlsIdentity, lifecycle: Lifecycle
) -> AsyncIterator[Following]:
    """Follow the verifier that the settings name, if they name one.

    Args:
        settings: Of this service.
        folder: Its state; keeps the newest set of keys.
        identity: As whom the verifier is asked.
        lifecycle: Of this process.

    Raises:
        NotReady: The file of the verifier's keys is not usable.
    """
    keys, learned = _keys(settings, folder)
    if not settings.verifier:
        _log.warning("verifier.unfollowed", meaning="what is revoked stays good for the five minutes of a result")
        yield Following(keys, _no_look, Unfollowed())
        return
    async with Peer(settings.verifier, identity, server_name(settings.cluster, "verifier")) as verifier:

        async def look(token: str) -> None:
            if learned is not None:
                await learned.look_for(token, lambda: fetch_key_set(verifier))

        learn = learned.learn if learned is not None else _no_learning
        feed = TrustFeed(monotonic=time.monotonic, silence_s=settings.silence_s / 2, learn=learn)
        task = lifecycle.spawn(feed.follow(verifier), "verifier.following")
        try:
            yield Following(keys, look, Followed(feed, silence_s=settings.silence_s))
        finally:
            task.cancel()


def _keys(settings: Settings, folder: Path) -> tuple[VerifierKeys, LearnedKeys | None]:
    if not settings.key_signers:
        return PinnedKeys(settings.verifier_keys, settings.verifier_thumbprints), None
    signers = KeySigners(frozenset(settings.key_signers), settings.key_threshold)
    signed = SignedKeys(
        settings.verifier_keys,
        lambda first: LearnedKeys(signers, settings.verifier_id, first, monotonic=time.monotonic),
        folder / KEPT,
    )
    return signed, signed.learned


async def _no_look(_token: str) -> None:
    """Nobody to ask."""


def _no_learning(_key_set: bytes) -> None:
    """Keys are pinned one by one."""
