"""One change of the state: rows, and the line of the log that vouches for them. Both are committed, or neither is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime

from cloister.kit.record_line import Field, about, line
from cloister.provisioner.ledger import lines
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.marks import Marks
from cloister.provisioner.ledger.tables import Key, Table, Value
from cloister.provisioner.ledger.vouched import Pending, Rows, Vouch, find
from cloister.tlog.merkle import Frontier


class Change(Look):
    """What one caller changes, within the transaction of a group. Sees what it has written.

    Attributes:
        written: Rows, by the lines that this has written.
        tree: The log's, with these lines.
        marks: The log's, with these lines; a change may begin a new generation.
    """

    def __init__(
        self, cursor: sqlite3.Cursor, rows: Rows, tree: Frontier, marks: Marks, now: Callable[[], datetime]
    ) -> None:
        self.written = Pending(rows)
        super().__init__(cursor, self.written)
        self.tree = tree.copy()
        self.marks = marks
        self._now = now
        self._unvouched: dict[tuple[Table, Key], bytes | None] = {}

    @property
    def next_sequence(self) -> int:
        """The number that the next line will have."""
        return self.tree.size + 1

    def put(self, table: Table, key: Key, *values: Value) -> None:
        """Put a row, in the place of one with the same key; the next line vouches for it.

        Args:
            table: Where.
            key: Of the row.
            values: What the table calls columns, then what it calls wrapped.
        """
        row = (*table.key_values(key), *values)
        self.cursor.execute(table.inserted, row)
        self._unvouched[table, key] = table.digest(row)

    def delete(self, table: Table, key: Key) -> None:
        """Delete a row; the next line says so."""
        self.cursor.execute(f"DELETE FROM {table.name} WHERE {table.found}", table.key_values(key))  # noqa: S608  # constants
        self._unvouched[table, key] = None

    def line(self, event: str, **fields: Field) -> int:
        """Write the line of what was put and deleted since the line before; returns its number.

        Args:
            event: `noun.verbed`.
            fields: Plain values; never a secret.
        """
        rows = {table.called(key): digest.hex() if digest else None for (table, key), digest in self._unvouched.items()}
        return self.told(about(event, {**fields, "rows": rows} if rows else fields))

    def told(self, about: dict[str, Field]) -> int:
        """Write a line of what `about` made; returns its number."""
        sequence = self.next_sequence
        self._append(line(about, sequence=sequence, now=self._now()))
        for (table, key), digest in self._unvouched.items():
            self._vouch(table, key, Vouch(sequence, digest) if digest is not None else None)
        self._unvouched.clear()
        return sequence

    def adopt(self, record: bytes) -> None:
        """Write a line of another record as it is."""
        self._append(record)

    def check_told(self) -> None:
        """Check that no row was changed without a line; a mistake of ours, raised as ValueError."""
        if self._unvouched:
            raise ValueError("rows were changed and no line says so")

    def _append(self, record: bytes) -> None:
        lines.append(self.cursor, self.tree, record)
        self.marks = self.marks.after(record)

    def _vouch(self, table: Table, key: Key, vouch: Vouch | None) -> None:
        if vouch is not None:
            stored = (table.name, key.name, key.number, vouch.sequence, vouch.sha256)
            self.cursor.execute("INSERT OR REPLACE INTO vouched VALUES (?, ?, ?, ?, ?)", stored)
        elif find(self.written, table, key) is not None:
            stored_key = (table.name, key.name, key.number)
            self.cursor.execute("DELETE FROM vouched WHERE tbl = ? AND name = ? AND number = ?", stored_key)
        self.written.put(table, key, vouch)
