"""The log of the ledger, as witnesses, auditors and owners read it: lines, signed heads and proofs (RFC 6962).

Reads what is on disk, and blocks. A line's number counts from 1, and its leaf in the tree from 0.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.errors import LogBroken
from cloister.provisioner.ledger import lines
from cloister.provisioner.ledger.head import Head
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.marks import Marks
from cloister.tlog import proofs
from cloister.tlog.merkle import HASH_BYTES, Frontier, leaf_hash

_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class State:
    """How far a log has come on disk.

    Attributes:
        tree: Of all lines.
        head: Signed.
        marks: What else it is bound to.
    """

    tree: Frontier
    head: Head
    marks: Marks


class Log:
    """The log of one ledger. Thread safe.

    Args:
        key: The public key that heads are signed with, 32 bytes.
        state: Tells how far it has come.
        looking: Begins a look at the file.
    """

    def __init__(
        self, key: bytes, state: Callable[[], State], looking: Callable[[], AbstractContextManager[Look]]
    ) -> None:
        self._key = key
        self._state = state
        self._looking = looking

    def generation(self) -> int:
        """In the name of the log, from 1."""
        return self._state().marks.generation

    def size(self) -> int:
        """How many lines are on disk."""
        return self._state().tree.size

    def tree(self) -> Frontier:
        """The tree of what is on disk, as this process knows it, whatever became of the disk since."""
        return self._state().tree.copy()

    def checkpoint(self) -> str:
        """The signed head of what is on disk."""
        return self._state().head.checkpoint

    def log_key(self) -> bytes:
        """The public key that heads are signed with, 32 bytes."""
        return self._key

    def line(self, sequence: int) -> bytes:
        """One line; raises LogBroken where there is none."""
        with self._looking() as look:
            return lines.record(look.cursor, sequence)

    def root(self, size: int) -> bytes:
        """The root over the first `size` lines; raises LogBroken where there are not so many."""
        with self._looking() as look:
            return proofs.head(size, _subtrees(look.cursor))

    def inclusion(self, sequence: int, size: int) -> list[bytes]:
        """Prove that a line is one of the first `size`; raises ValueError where it is not."""
        with self._looking() as look:
            return proofs.inclusion(sequence - 1, size, _subtrees(look.cursor))

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Prove that the first `new_size` lines begin with the first `old_size`; raises ValueError if they cannot."""
        with self._looking() as look:
            return proofs.consistency(old_size, new_size, _subtrees(look.cursor))

    def written_elsewhere(self) -> bool:
        """Whether another process has added lines to the file."""
        with self._looking() as look:
            return lines.size(look.cursor) != self.size()

    def resumed(self) -> int:
        """The number of the line that began this generation; 0 in the first one."""
        return self._state().marks.resumed

    def released_at(self) -> datetime | None:
        """When a key was released last, by the log; None for never."""
        return self._state().marks.released_at

    def records(self, after: int = 0, newest: int = 0) -> Iterator[AuditRecord]:
        """Lines with a number above `after`, oldest first, as far as they went when asked.

        Args:
            after: 0 for all.
            newest: Only those among the newest so many; 0 for all.

        Raises:
            LogBroken: A line is missing or is not as it was written.
            Unavailable: They cannot be read.
        """
        last = self.size()
        if newest:
            after = max(after, last - newest)
        while after < last:
            with self._looking() as look:
                page = lines.page(look.cursor, after, last, _PAGE)
            for sequence, record, nodes in page:
                yield AuditRecord(sequence=sequence, record=record, leaf_hash=nodes[:HASH_BYTES])
            after += len(page)

    def newest(self, most: int) -> Iterator[AuditRecord]:
        """The newest so many lines, oldest first, of which none was changed or taken out, whoever can write the disk.

        Raises:
            LogBroken: They do not lead to the head; known at their end.
            Unavailable: They cannot be read.
        """
        head = self.tree()
        with self._looking() as look:
            tree = lines.tree_of(look.cursor, max(0, head.size - most))
        while tree.size < head.size:
            with self._looking() as look:
                page = lines.page(look.cursor, tree.size, head.size, _PAGE)
            for sequence, record, _nodes in page:
                leaf = leaf_hash(record)
                tree.add(leaf)
                yield AuditRecord(sequence=sequence, record=record, leaf_hash=leaf)
        if tree.root() != head.root():
            raise LogBroken("the lines of the log do not lead to its signed head", reason="line.altered")

    def leaves(self, after: int, last: int, most: int) -> list[tuple[int, bytes, bytes]]:
        """The next lines after a number: of each the number, its leaf hash, and the nodes beside it; as `records`."""
        with self._looking() as look:
            page = lines.page(look.cursor, after, last, most)
        return [(sequence, leaf_hash(record), nodes) for sequence, record, nodes in page]


def _subtrees(cursor: sqlite3.Cursor) -> Callable[[int, int], bytes]:
    return partial(lines.subtree, cursor)
