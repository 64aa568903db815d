"""What a provisioner does against loss, killed in it: recovery keys dealt, all restored by one, a log gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chaos.provisioner_roots import ROOT_KEYS
from cloister import dsse
from cloister.api.v1.recovery_pb2 import RecoveryDeal
from cloister.errors import NotReady
from cloister.kit.log_origin import LogOrigin
from cloister.kit.recovery_cards import ORDER_TYPE, RecoveryCard, deal_order
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.recovery.attempts import RecoveryAttempts
from cloister.provisioner.recovery.dealing import Dealt, Recovery
from cloister.provisioner.recovery.recovering import stored_deal
from cloister.provisioner.recovery.restoring import Restored, restore
from cloister.provisioner.recovery.shares import combined
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.witnesses.freshness import Freshness
from cloister.provisioner.witnesses.resuming import Asked, Outcome, Resuming
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.keys import Secret
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import NoteSigner
from fakes.recovery_holders import Holder
from fakes.results import CLUSTER

OPERATOR: Final = f"spiffe://{CLUSTER}/operator/main"
THRESHOLD: Final = 2
LOST_LINES: Final = 3
HOLDERS: Final = [
    Holder(
        name, CLUSTER, KeyPair.from_seed(XWING, key := bytes([number]) * 32), Ed25519PrivateKey.from_private_bytes(key)
    )
    for number, name in enumerate(("alice", "bob", "carol"), 1)
]
"""The same in each process that works on a state."""


def deal(recovery: Recovery, owner: Ed25519PrivateKey) -> Dealt:
    """The next recovery key, ordered by those who hold the present one, or for the first by who has all the models."""
    cards = [each.card for each in HOLDERS]
    generation = recovery.present().generation + 1
    payload = deal_order(CLUSTER, generation, THRESHOLD, [RecoveryCard.read(each, cluster=CLUSTER) for each in cards])
    signers = [each.key for each in HOLDERS[:THRESHOLD]] if generation > 1 else [owner]
    return recovery.deal(cards, THRESHOLD, dsse.sign(payload, ORDER_TYPE, signers), by=OPERATOR)


def seed_of(deal: RecoveryDeal) -> Secret:
    """Of the recovery key, by as many shares as it takes."""
    return combined([each.share(deal).words for each in HOLDERS[:THRESHOLD]])


def restore_all(state: Path) -> Restored | None:
    """As where the root key is lost and there is another; None where no recovery key was dealt."""
    with Database.opened(state / NAME) as database:
        dealt = stored_deal(database)
        if dealt is None:
            return None
        used = database.root_key_ids()
        today = next((vault for vault in ROOT_KEYS if vault.key_id() not in used), ROOT_KEYS[0])
        RecoveryAttempts(database).add("recovery.begun", session="5e")
        return restore(
            database,
            Keyring([today]),
            seed_of(dealt),
            cluster=CLUSTER,
            generation=dealt.generation,
            session_id="5e",
            given_by=[each.name for each in HOLDERS[:THRESHOLD]],
        )


async def resume(ledger: Ledger) -> Outcome:
    """Go on as from an older copy: by what the witnesses say, a few lines more were countersigned than there are."""
    log = ledger.log

    def countersigned() -> Checkpoint:
        return Checkpoint(str(LogOrigin(CLUSTER, log.generation())), log.size() + LOST_LINES, bytes(32))

    async def heads() -> Sequence[str]:
        return [str(NoteSigner(head.origin, HOLDERS[0].key).sign(head.text))]

    async def witnessed(_sequence: int) -> None:
        """At once."""

    resuming = Resuming(ledger, Freshness(log, heads, asyncio.Event()), witnessed)
    while True:
        head = countersigned()
        try:
            return await resuming.resume(Asked(log.size(), head.size, "a drill", OPERATOR))
        except NotReady:  # others write to the log meanwhile
            await asyncio.sleep(0)
