"""The lines of the log in the file: leaves of a Merkle tree (RFC 6962), with its nodes beside them.

Beside a line are the hashes of all perfect subtrees that end with it, its own leaf first: two in the mean. So a node is
found by the number of its last line, and appending, heads and proofs take a few look-ups by number for each level.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from cloister.errors import LogBroken
from cloister.tlog.merkle import HASH_BYTES, Frontier, leaf_hash

Line = tuple[int, bytes, bytes]
"""Number, record, and the nodes that end with it."""


def append(cursor: sqlite3.Cursor, tree: Frontier, record: bytes) -> None:
    """Write the next line of a tree, which grows by it."""
    nodes = b"".join(tree.add(leaf_hash(record)))
    cursor.execute("INSERT INTO line VALUES (?, ?, ?)", (tree.size, record, nodes))


def size(cursor: sqlite3.Cursor) -> int:
    """The number of the newest line."""
    return int(cursor.execute("SELECT COALESCE(MAX(sequence), 0) FROM line").fetchone()[0])


def record(cursor: sqlite3.Cursor, sequence: int) -> bytes:
    """One line.

    Raises:
        LogBroken: There is none (`log.truncated`).
    """
    row = cursor.execute("SELECT record FROM line WHERE sequence = ?", (sequence,)).fetchone()
    if row is None:
        raise missing(sequence)
    return bytes(row[0])


def subtree(cursor: sqlite3.Cursor, level: int, index: int) -> bytes:
    """The hash over the 2^level lines from leaf `index << level` on; raises as `record`."""
    last = (index + 1) << level
    row = cursor.execute(
        "SELECT substr(nodes, ?, ?) FROM line WHERE sequence = ?", (1 + level * HASH_BYTES, HASH_BYTES, last)
    ).fetchone()
    if row is None or len(row[0] or b"") != HASH_BYTES:
        raise missing(last)
    return bytes(row[0])


def tree_of(cursor: sqlite3.Cursor, size: int) -> Frontier:
    """The tree of the first `size` lines; raises as `record`."""
    peaks, index = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            peaks.append(subtree(cursor, level, index >> level))
            index += 1 << level
    return Frontier(size, peaks)


def page(cursor: sqlite3.Cursor, after: int, last: int, most: int) -> Sequence[Line]:
    """The next lines after a number, in order, up to `last`, without a gap.

    Raises:
        LogBroken: One is missing, or is not what its hash says.
    """
    rows: list[Line] = cursor.execute(
        "SELECT sequence, record, nodes FROM line WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
        (after, last, most),
    ).fetchall()
    for number, (sequence, record, nodes) in zip(_numbers(after, last, most), rows, strict=False):
        if sequence != number:
            raise missing(number)
        if nodes[:HASH_BYTES] != leaf_hash(record):
            raise LogBroken(f"line {number} of the log is not as it was written", reason="line.altered")
    if len(rows) < min(most, last - after):
        raise missing(after + len(rows) + 1)
    return rows


def missing(sequence: int) -> LogBroken:
    """The error for a line that is not there, or has lost its nodes."""
    return LogBroken(f"line {sequence} of the log is missing or cut off", reason="log.truncated")


def _numbers(after: int, last: int, most: int) -> Iterator[int]:
    return iter(range(after + 1, min(last, after + most) + 1))
