"""The restoring of what is kept: opened by its copies, wrapped under today's root key, in one change of the ledger.

The log's key comes first, out of its own copy; that it is the right one, its public half says, which witnesses know.
With it the whole state is checked as at every start, and so each copy is one that the log vouches for, before it is
opened. Blocking: called off the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from cloister.errors import NotReady, SealBroken
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.database import Database
from cloister.provisioner.ledger.head import LogKey
from cloister.provisioner.ledger.opening import with_key
from cloister.provisioner.ledger.tables import LOG_KEY
from cloister.provisioner.models.kept_secrets import KeptSecret, kept_keys, kept_secrets, put_wrapped
from cloister.provisioner.recovery.attempts import RecoveryAttempts
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.vault import LogKeyId, Wrapped
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.recovery import open_copy

RESTORED = "recovery.restored"


class Restored(NamedTuple):
    """What came of it."""

    secrets: int
    sequence: int


def restore(
    database: Database,
    keyring: Keyring,
    seed: Secret,
    *,
    cluster: str,
    generation: int,
    session_id: str,
    given_by: Sequence[str],
) -> Restored:
    """Restore all that is kept.

    Args:
        database: The state.
        keyring: Wraps under today's root key.
        seed: Of the recovery key; overwritten by the caller.
        cluster: The mesh.
        generation: Of the recovery key.
        session_id: In which it was restored, in hex.
        given_by: Who gave shares, as SPIFFE ids.

    Raises:
        SealBroken: A copy does not open, or is not as it was written.
        LogBroken, NotReady, Unavailable: As at a start.
    """
    pair = KeyPair.from_seed(XWING, seed.view)
    before = sorted(database.root_key_ids())
    ledger = with_key(database, _log_key(database, pair, cluster, generation))
    with ledger.writing():
        with ledger.looking() as look:
            kept = kept_secrets(look, cluster)
        wrapped = [(each, _wrapped(each, pair, keyring, cluster, generation)) for each in kept]

        def change(change: Change) -> int:
            if len(kept_keys(change)) != len(wrapped):
                raise NotReady("something was kept meanwhile; begin again", reason="writer.other")
            for each, under_today in wrapped:
                put_wrapped(change, each, under_today)
            RecoveryAttempts(database).tell(change)
            return change.line(
                RESTORED,
                generation=generation,
                session=session_id,
                given_by=list(given_by),
                secrets=len(wrapped),
                from_roots=before,
                to_root=keyring.wrapping_id,
            )

        return Restored(len(wrapped), ledger.change(change))


def _log_key(database: Database, pair: KeyPair, cluster: str, generation: int) -> LogKey:
    with closing(database.writing.cursor()) as cursor:
        row = cursor.execute(LOG_KEY.selected).fetchone()
    if row is None:
        raise NotReady("the key of the log is missing from the state", reason="store.altered")
    _name, public, copy, *_ = row
    seed = open_copy(pair, copy, LogKeyId(cluster, public).aad(), cluster=cluster, generation=generation)
    try:
        key = LogKey(cluster, seed)
    finally:
        seed.wipe()
    if key.public != public:
        raise SealBroken(reason="store.altered")
    return key


def _wrapped(each: KeptSecret, pair: KeyPair, keyring: Keyring, cluster: str, generation: int) -> Wrapped:
    secret = open_copy(pair, each.copy, each.record.aad(), cluster=cluster, generation=generation)
    try:
        return keyring.wrap(each.record, secret)
    finally:
        secret.wipe()
