"""A look at the state: rows, each checked against what the log says of it before anybody acts on it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any, Final

from cloister.errors import SealBroken
from cloister.kit.log import get_logger
from cloister.provisioner.ledger.tables import Key, Table
from cloister.provisioner.ledger.vouched import Rows, find, numbers

Row = tuple[Any, ...]
"""A row's values: what the table calls columns, then what it calls wrapped. SQLite holds them to their types."""
ALTERED: Final = "store.altered"
_log = get_logger()


class Look:
    """Rows as of one moment.

    Attributes:
        cursor: For what the log does not vouch for, and for finding keys.
    """

    def __init__(self, cursor: sqlite3.Cursor, rows: Rows) -> None:
        self.cursor = cursor
        self._rows = rows

    def get(self, table: Table, key: Key) -> Row | None:
        """A row; None when by the log there is none.

        Raises:
            SealBroken: It was edited, deleted, or put back from another time (`store.altered`).
        """
        row = self.cursor.execute(f"{table.selected} WHERE {table.found}", table.key_values(key)).fetchone()
        self._check(table, key, row)
        return None if row is None else row[len(table.key) :]

    def all(self, table: Table, name: str) -> dict[int, Row]:
        """All rows of a name by number, the highest last; raises as `get`."""
        rows = self._stored(table, name)
        for number in rows.keys() | set(self.numbers(table, name)):
            self._check(table, Key(name, number), rows.get(number))
        return {number: rows[number][len(table.key) :] for number in sorted(rows)}

    def name_altered(self, table: Table, name: str) -> None:
        """Log each row of a name that is not as the log says."""
        rows = self._stored(table, name)
        for number in sorted(rows.keys() | set(self.numbers(table, name))):
            with suppress(SealBroken):
                self._check(table, Key(name, number), rows.get(number))

    def names(self, table: Table) -> list[str]:
        """The names that have rows, in order, by the log."""
        return sorted(self._rows.names(table))

    def numbers(self, table: Table, name: str) -> list[int]:
        """Of all rows of a name, in order, by the log."""
        return numbers(self._rows, table, name)

    def newest(self, table: Table, name: str) -> int:
        """The highest of them; 0 when there are none."""
        return max(self.numbers(table, name), default=0)

    def changed_at(self, table: Table, name: str) -> int:
        """The number of the newest line about any row of a name; 0 when there is none, now."""
        return max((vouch.sequence for vouch in self._rows.of(table, name).values() if vouch is not None), default=0)

    def sequence_of(self, table: Table, key: Key) -> int:
        """The number of the newest line about a row; 0 when there is no such row."""
        vouch = find(self._rows, table, key)
        return vouch.sequence if vouch is not None else 0

    def _stored(self, table: Table, name: str) -> dict[int, Row]:
        found = self.cursor.execute(f"{table.selected} WHERE {table.key[0]} = ?", (name,)).fetchall()
        return {table.key_of(row).number: row for row in found}

    def _check(self, table: Table, key: Key, row: Row | None) -> None:
        vouch = find(self._rows, table, key)
        if (row is None) != (vouch is None) or (vouch and row and table.digest(row) != vouch.sha256):
            raise altered(key.name, row=table.called(key))


def altered(model_name: str, **more: str) -> SealBroken:
    """The error, and the alarm, for a record that is not as it was written."""
    _log.error(ALTERED, model=model_name, **more)
    return SealBroken(reason=ALTERED)
