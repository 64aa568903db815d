"""Which rows there are, by the log: of each the hash, and the number of the line that wrote it.

This is kept in memory, where whoever can write the disk changes nothing. What a change has written is in a layer of its
own until it is committed. Not thread safe: the ledger sees to that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from cloister.provisioner.ledger.tables import Key, Table


class Vouch(NamedTuple):
    """What the log says of a row: the number of the newest line about it, and its SHA-256."""

    sequence: int
    sha256: bytes


Numbered = Mapping[int, Vouch | None]
"""Rows of one name by their numbers; None for one that is deleted."""


class Rows(Protocol):
    """Rows that can be looked up."""

    def of(self, table: Table, name: str) -> Numbered:
        """All rows of a name; not to be changed."""

    def names(self, table: Table) -> set[str]:
        """The names that have rows."""


class Vouched:
    """All rows that are committed."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Numbered] = {}
        self._told: dict[str, bytes] = {}  # a line of the digest for each, in the order of their names
        self._digest = _digest_of(self._told)

    def of(self, table: Table, name: str) -> Numbered:
        """All rows of a name; not to be changed."""
        return self._rows.get((table.name, name), {})

    def names(self, table: Table) -> set[str]:
        """The names that have rows."""
        return {name for held, name in self._rows if held == table.name}

    def take(self, written: Pending) -> None:
        """Take in what was committed; where that is no row, as for a release, it costs nothing."""
        if not written:
            return
        self._told = self._with(written)
        self._digest = _digest_of(self._told)
        for (table, key), vouch in written.items():
            rows: Numbered = {**self.of(table, key.name), key.number: vouch}
            kept = {number: each for number, each in rows.items() if each is not None}
            if kept:
                self._rows[table.name, key.name] = kept
            else:
                self._rows.pop((table.name, key.name), None)

    def digest(self, written: Pending | None = None) -> bytes:
        """SHA-256 over all rows, with those that are to be committed."""
        return _digest_of(self._with(written)) if written else self._digest

    def _with(self, written: Pending) -> dict[str, bytes]:
        told = dict(self._told)
        for (table, key), vouch in written.items():
            row = table.called(key)
            if vouch is None:
                told.pop(row, None)
            else:
                told[row] = f"{row} {vouch.sequence} {vouch.sha256.hex()}\n".encode()
        return dict(sorted(told.items()))


class Pending:
    """What is written over other rows and not committed yet."""

    def __init__(self, below: Rows) -> None:
        self._below = below
        self._written: dict[tuple[Table, Key], Vouch | None] = {}

    def __bool__(self) -> bool:
        return bool(self._written)

    def items(self) -> list[tuple[tuple[Table, Key], Vouch | None]]:
        """What is written; None stands for a row that is deleted."""
        return list(self._written.items())

    def put(self, table: Table, key: Key, vouch: Vouch | None) -> None:
        """Write one; None deletes it."""
        self._written[table, key] = vouch

    def take(self, written: Pending) -> None:
        """Take in what was written over this."""
        self._written.update(written._written)

    def names(self, table: Table) -> set[str]:
        """The names that have rows."""
        touched = {key.name for held, key in self._written if held == table}
        found = self._below.names(table) | touched
        return {name for name in found if name not in touched or numbers(self, table, name)}

    def of(self, table: Table, name: str) -> Numbered:
        """All rows of a name; not to be changed."""
        if not self._written:
            return self._below.of(table, name)
        mine = {key.number: vouch for (held, key), vouch in self._written.items() if (held, key.name) == (table, name)}
        return {**self._below.of(table, name), **mine}


def _digest_of(told: Mapping[str, bytes]) -> bytes:
    return hashlib.sha256(b"".join(told.values())).digest()


def find(rows: Rows, table: Table, key: Key) -> Vouch | None:
    """What the log says of a row; None when there is none."""
    return rows.of(table, key.name).get(key.number)


def numbers(rows: Rows, table: Table, name: str) -> list[int]:
    """Of all rows of a name, in order."""
    return sorted(number for number, vouch in rows.of(table, name).items() if vouch is not None)
