"""What earlier versions of Cloister kept in two files, taken over into the ledger at its first start.

`models.db` held the rows, `audit.db` the lines. Both are set aside under another name first, and taken away when the
ledger that has all of them is on disk: whenever this is killed, the next start goes on where it was. Afterwards a
`models.db` that turns up again is not looked at, and not taken away either: the start is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import LogBroken, NotReady
from cloister.kit.log import get_logger
from cloister.provisioner.ledger import lines
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.tables import EPOCH, EPOCH_COUNT, MODEL, MODEL_VERSION, POLICY, Table
from cloister.tlog.merkle import leaf_hash

_NAMES: Final = ("models.db", "audit.db")
_TABLES: Final = (MODEL, MODEL_VERSION, POLICY, EPOCH_COUNT, EPOCH)
_ROWS_IN_A_LINE: Final = 100
_log = get_logger()


@dataclass(frozen=True, slots=True)
class EarlierFiles:
    """The files in one folder."""

    folder: Path

    def set_aside(self, *, begun: bool) -> None:
        """Give them the name under which they are taken over.

        Args:
            begun: There is a ledger already.

        Raises:
            NotReady: There is, and such a file beside it (`state.doubled`).
        """
        for path in (self.folder / name for name in _NAMES):
            if not path.exists():
                continue
            if begun:
                raise NotReady(
                    f"{path} is of an earlier version, and this state has gone on without it: take one of both away",
                    reason="state.doubled",
                )
            with closing(sqlite3.connect(path)) as connection:  # leaves no -wal behind that would keep its name
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            path.rename(_aside(path))

    def take_over(self, change: Change) -> None:
        """Copy all lines and rows; lines vouch for the rows.

        Raises:
            LogBroken: The record has a gap, or a hash in it does not fit.
        """
        models, audit = (_aside(self.folder / name) for name in _NAMES)
        if audit.exists():
            with closing(sqlite3.connect(audit)) as connection:
                _copy_lines(connection, change)
        if models.exists():
            with closing(sqlite3.connect(models)) as connection:
                _copy_rows(connection, change)

    def remove(self) -> None:
        """Take them away; the ledger has all that was in them."""
        for path in (_aside(self.folder / name) for name in _NAMES):
            if path.exists():
                path.unlink()
                _log.info("state.taken_over", path=str(path))


def _copy_lines(earlier: sqlite3.Connection, change: Change) -> None:
    for sequence, record, leaf in earlier.execute("SELECT sequence, record, leaf_hash FROM records ORDER BY sequence"):
        if sequence != change.next_sequence:
            raise lines.missing(change.next_sequence)
        if leaf != leaf_hash(record):
            raise LogBroken(f"line {sequence} of the record is not as it was written", reason="line.altered")
        change.adopt(record)


def _copy_rows(earlier: sqlite3.Connection, change: Change) -> None:
    put = 0
    for table, row in _rows(earlier):
        change.put(table, table.key_of(row), *row[len(table.key) :])
        put += 1
        if put % _ROWS_IN_A_LINE == 0:
            change.line("state.taken_over")
    if put % _ROWS_IN_A_LINE:
        change.line("state.taken_over")


def _rows(earlier: sqlite3.Connection) -> Iterator[tuple[Table, tuple[str | int | bytes, ...]]]:
    earlier.row_factory = sqlite3.Row
    there = {row["name"] for row in earlier.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for table in _TABLES:
        if table.name not in there:  # the first version had no epochs
            continue
        for row in earlier.execute(f"SELECT * FROM {table.name}"):  # noqa: S608  # constants
            known = set(row.keys())
            columns = (*table.key, *table.columns, *table.wrapped)
            yield table, tuple(row[column] if column in known else b"" for column in columns)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.earlier")
