"""Every secret that the provisioner keeps, with what it is bound to: the log's key, models' keys, epochs' seeds.

A secret lies in its row twice: wrapped under a root key, and as a copy sealed to the recovery key once one was dealt.
The log vouches for the copy. It does not for the wrap, which binds itself to the rest of the row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.look import Look, Row, altered
from cloister.provisioner.ledger.tables import EPOCH, LOG_KEY, MODEL_VERSION, Key, Table
from cloister.provisioner.models.epoch_store import StoredEpoch
from cloister.provisioner.models.stored import stored_model, stored_owner
from cloister.provisioner.vaults.vault import LogKeyId, Record, Wrapped

SECRETS: Final = (LOG_KEY, MODEL_VERSION, EPOCH)


class KeptSecret(NamedTuple):
    """One secret, where it is kept.

    Attributes:
        table: Whose row it is in.
        key: Of the row.
        copy: Sealed to the recovery key; empty while none was dealt.
        wrapped: Under a root key.
        record: What both are bound to.
    """

    table: Table
    key: Key
    copy: bytes
    wrapped: Wrapped
    record: Record


def kept_keys(look: Look) -> list[tuple[Table, Key]]:
    """Where secrets are kept, as of one look or within a change."""
    found = []
    for table in SECRETS:
        rows = look.cursor.execute(f"SELECT {', '.join(table.key)} FROM {table.name}").fetchall()  # noqa: S608  # constants
        found += [(table, Key(*row)) for row in rows]
    return found


def kept_secrets(look: Look, cluster: str) -> list[KeptSecret]:
    """All of them, as of one look.

    Raises:
        SealBroken: One is not as it was written (`store.altered`).
    """
    found = (kept_secret(look, table, key, cluster) for table, key in kept_keys(look))
    return [each for each in found if each is not None]


def put_copy(change: Change, table: Table, key: Key, copy: bytes) -> None:
    """Put a secret's row with another copy; the next line vouches for it."""
    row = change.get(table, key)
    if row is None:
        raise altered(key.name, row=table.called(key))
    *columns, _, content, root_key_id = row
    change.put(table, key, *columns, copy, content, root_key_id)


def put_wrapped(change: Change, secret: KeptSecret, wrapped: Wrapped) -> None:
    """Put a secret's wrap under another root key in the place of its own; what the log vouches for stays."""
    table = secret.table
    columns = ", ".join(f"{column} = ?" for column in table.wrapped)
    statement = f"UPDATE {table.name} SET {columns} WHERE {table.found}"  # noqa: S608  # constants
    change.cursor.execute(statement, (wrapped.content, wrapped.root_key_id, *table.key_values(secret.key)))


def kept_secret(look: Look, table: Table, key: Key, cluster: str) -> KeptSecret | None:
    """One of them; None when by the log there is none. Raises as `kept_secrets`."""
    row = look.get(table, key)
    if row is None:
        return None
    *_, copy, content, root_key_id = row
    return KeptSecret(table, key, copy, Wrapped(content, root_key_id), _record(look, table, key, row, cluster))


def _record(look: Look, table: Table, key: Key, row: Row, cluster: str) -> Record:
    if table is LOG_KEY:
        return LogKeyId(cluster, row[0])
    owner = stored_owner(look, key.name)
    if owner is None:  # nothing of ours keeps a key of no model
        raise altered(key.name, row=table.called(key))
    if table is EPOCH:
        return StoredEpoch(key.name, key.number, *row).record_id(owner.key)
    model = stored_model(look, key.name, key.number)
    if model is None:
        raise altered(key.name, row=table.called(key))
    return model.record_id()
