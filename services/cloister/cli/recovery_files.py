"""What an owner keeps for recovery, in the folder of the identity: a key, a card to hand out, and a sealed share.

recovery_key          32 bytes, mode 0600: opens the owner's share
recovery_card.json    its public half, signed: for whoever deals
recovery_share.json   the share as it was dealt; opens with recovery_key only
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloister.cli import identities
from cloister.cli.failures import ExitCode, Stop
from cloister.client.recovery import SealedShare
from cloister.kit.recovery_cards import MAX_CARD_BYTES, RecoveryCard, card
from cloister.rpc.files import create_private, read_private, read_public, replace_public
from cloister.rpc.spiffe import SpiffeId
from cloister.seal.hpke import SEED_BYTES, XWING, KeyPair
from cloister.seal.keys import Secret

KEY, CARD, SHARE = "recovery_key", "recovery_card.json", "recovery_share.json"


def make(identity: Path) -> RecoveryCard:
    """Make an owner's recovery key and its card, where there is none yet."""
    owner = SpiffeId.parse(identities.described(identity).spiffe_id)
    signer = identities.signing_key(identity)
    seed = Secret.random(SEED_BYTES)
    try:
        envelope = card(owner, KeyPair.from_seed(XWING, seed.view).public, signer)
        try:
            create_private(identity / KEY, seed.reveal())
        except FileExistsError as error:
            raise Stop(
                f"{identity / KEY} exists; a share may have been dealt to it. Move it away to make another",
                ExitCode.USAGE,
            ) from error
    finally:
        seed.wipe()
    replace_public(identity / CARD, envelope)
    return RecoveryCard.read(envelope, cluster=owner.cluster)


def key_pair(identity: Path) -> KeyPair:
    """An owner's recovery key; raises Stop where there is none."""
    path = identity / KEY
    if not path.exists():
        raise Stop(f"there is no {path}; 'cloister recovery keygen' makes one", ExitCode.USAGE)
    seed = Secret(read_private(path))
    try:
        return KeyPair.from_seed(XWING, seed.view)
    finally:
        seed.wipe()


def read_cards(paths: list[Path], cluster: str) -> list[RecoveryCard]:
    """Cards that owners have handed out; raises InvalidRequest for what is none."""
    return [RecoveryCard.read(read_public(path, most_bytes=MAX_CARD_BYTES), cluster=cluster) for path in paths]


def read_share(path: Path) -> SealedShare:
    """A share as it was dealt; raises InvalidRequest for what is none."""
    return SealedShare.read(read_public(path))


async def keep_share(path: Path, share: SealedShare) -> None:
    """Write a share's file, in the place of that of an older generation."""
    await asyncio.to_thread(replace_public, path, share.written())
