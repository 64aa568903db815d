"""The log of the ledger, as witnesses, auditors and owners read it: lines, signed heads and proofs (RFC 6962).

Reads what is on disk, and blocks. A line's number counts from 1, and its leaf in the tree from 0.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.kit.log_origin import RESUMED
from cloister.kit.record_line import time_of
from cloister.provisioner import lines
from cloister.provisioner.head import FIRST_GENERATION, Head
from cloister.provisioner.look import Look
from cloister.tlog import proofs
from cloister.tlog.merkle import HASH_BYTES, Frontier, leaf_hash

_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class State:
    """How far a log has come on disk.

    Attributes:
        tree: Of all lines.
        head: Signed.
        generation: In the name of the log, from 1.
    """

    tree: Frontier
    head: Head
    generation: int


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
        return self._state().generation

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
        if self.generation() == FIRST_GENERATION:
            return 0
        record = self.latest(RESUMED)
        return int(json.loads(record)["sequence"]) if record is not None else 0

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

    def leaves(self, after: int, last: int, most: int) -> list[tuple[int, bytes, bytes]]:
        """The next lines after a number: of each the number, its leaf hash, and the nodes beside it; as `records`."""
        with self._looking() as look:
            page = lines.page(look.cursor, after, last, most)
        return [(sequence, leaf_hash(record), nodes) for sequence, record, nodes in page]

    def latest(self, event: str) -> bytes | None:
        """The newest line of an event, or None if there is none; raises as `records`."""
        with self._looking() as look:
            row = look.cursor.execute(
                "SELECT sequence, record FROM line WHERE json_extract(CAST(record AS TEXT), '$.event') = ? "
                "ORDER BY sequence DESC LIMIT 1",
                (event,),
            ).fetchone()
        if row is None:
            return None
        sequence, record = row
        tree = self._state().tree
        path = self.inclusion(sequence, tree.size)
        proofs.verify_inclusion(leaf_hash(record), sequence - 1, tree.size, path, tree.root())
        return bytes(record)

    def latest_at(self, event: str) -> datetime | None:
        """When the log last tells of an event, or None if it never does; raises as `records`."""
        record = self.latest(event)
        return None if record is None else time_of(record)


def _subtrees(cursor: sqlite3.Cursor) -> Callable[[int, int], bytes]:
    return partial(lines.subtree, cursor)
