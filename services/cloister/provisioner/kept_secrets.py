"""Every secret that the provisioner keeps, with what it is bound to: the log's key, models' keys, epochs' seeds."""

from __future__ import annotations

from typing import Final, NamedTuple

from cloister.provisioner.change import Change
from cloister.provisioner.epoch_store import StoredEpoch
from cloister.provisioner.look import Look, Row, altered
from cloister.provisioner.models import stored_model, stored_owner
from cloister.provisioner.tables import EPOCH, LOG_KEY, MODEL_VERSION, Key, Table
from cloister.provisioner.vault import LogKeyId, Record, Wrapped

SECRETS: Final = (LOG_KEY, MODEL_VERSION, EPOCH)


class KeptSecret(NamedTuple):
    """One secret, where it is kept.

    Attributes:
        table: Whose row it is in.
        key: Of the row.
        wrapped: Under a root key.
        record: What it is bound to.
    """

    table: Table
    key: Key
    wrapped: Wrapped
    record: Record


def kept_secret(look: Look, table: Table, key: Key, cluster: str) -> KeptSecret | None:
    """The secret in a row; None when by the log there is no such row.

    Raises:
        SealBroken: The row is not as it was written (`store.altered`).
    """
    row = look.get(table, key)
    if row is None:
        return None
    *_, content, root_key_id = row
    return KeptSecret(table, key, Wrapped(content, root_key_id), _record(look, table, key, row, cluster))


def put_wrapped(change: Change, secret: KeptSecret, wrapped: Wrapped) -> None:
    """Put a secret's wrap under another root key in the place of its own; what the log vouches for stays."""
    table = secret.table
    columns = ", ".join(f"{column} = ?" for column in table.wrapped)
    statement = f"UPDATE {table.name} SET {columns} WHERE {table.found}"  # noqa: S608  # constants
    change.cursor.execute(statement, (wrapped.content, wrapped.root_key_id, *table.key_values(secret.key)))


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
