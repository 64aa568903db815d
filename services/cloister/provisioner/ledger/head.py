"""The head of the log, signed: a checkpoint for everybody, and what binds the rows of the state to it.

The log's key is born here and kept wrapped in the vault. Its signature is over the tree of all lines. A MAC under a key
derived from it is over the checkpoint and over all rows that the lines vouch for by then: so at the next start it takes
one look at every row, and none at the lines, to know that all are as they were (docs/decisions/0052-ledger.md).
"""

from __future__ import annotations

import hmac
import sqlite3
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.errors import InvalidRequest, LogBroken
from cloister.kit.log_origin import LogOrigin
from cloister.provisioner.ledger.marks import Marks
from cloister.seal.hpke import context
from cloister.seal.keys import Secret, expand
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.merkle import Frontier
from cloister.tlog.note import NoteSigner, SignedNote

SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Head:
    """The signed head of a log.

    Attributes:
        checkpoint: A signed note.
        resumed, released_ms: As in `Marks`.
        mac: Over all this and all rows, 32 bytes.
    """

    checkpoint: str
    resumed: int
    released_ms: int
    mac: bytes


class LogKey:
    """Signs heads of one cluster's log.

    Args:
        cluster: Whose.
        seed: Of an Ed25519 key, 32 bytes.
    """

    def __init__(self, cluster: str, seed: Secret) -> None:
        self._cluster = cluster
        self._private = Ed25519PrivateKey.from_private_bytes(seed.view)
        self._mac_key = expand(seed, b"cloister ledger rows v1")
        self.public = self._private.public_key().public_bytes_raw()

    def head(self, tree: Frontier, marks: Marks, rows_digest: bytes) -> Head:
        """Sign a tree, and bind marks and rows to it."""
        checkpoint = Checkpoint(str(LogOrigin(self._cluster, marks.generation)), tree.size, tree.root())
        note = NoteSigner(checkpoint.origin, self._private).sign(checkpoint.text)
        mac = self._mac(checkpoint, marks.resumed, marks.released_ms, rows_digest)
        return Head(str(note), marks.resumed, marks.released_ms, mac)

    def opened(self, head: Head) -> tuple[Checkpoint, Marks]:
        """The checkpoint of a head, and its marks, which `check_rows` checks.

        Raises:
            LogBroken: This key has not signed it, as a head of this cluster's log.
        """
        try:
            note = SignedNote.parse(head.checkpoint)
            checkpoint = Checkpoint.parse(note.text)
            origin = LogOrigin.parse(checkpoint.origin)
        except InvalidRequest as error:
            raise LogBroken(f"the head of the log is none: {error}", reason="checkpoint.malformed") from None
        if origin.cluster != self._cluster:
            raise LogBroken(f"the log is of {origin.cluster}, another mesh", reason="log.other")
        NoteSigner(checkpoint.origin, self._private).key.verify(note)
        return checkpoint, Marks(origin.generation, head.resumed, head.released_ms)

    def check_rows(self, head: Head, checkpoint: Checkpoint, rows_digest: bytes) -> None:
        """Check that these were all rows, and the marks, when a head was signed.

        Raises:
            LogBroken: They were not (`store.altered`).
        """
        expected = self._mac(checkpoint, head.resumed, head.released_ms, rows_digest)
        if not hmac.compare_digest(head.mac, expected):
            raise LogBroken("the index of the state is not what the log's head was signed with", reason="store.altered")

    def _mac(self, checkpoint: Checkpoint, resumed: int, released_ms: int, rows_digest: bytes) -> bytes:
        covered = context("cloister ledger head v1", checkpoint.text, resumed, released_ms, rows_digest)
        return hmac.digest(self._mac_key.view, covered, "sha256")


def stored(cursor: sqlite3.Cursor) -> Head | None:
    """The head in the file, if there is one."""
    row = cursor.execute("SELECT checkpoint, resumed, released_ms, mac FROM head").fetchone()
    return None if row is None else Head(*row)


def store(cursor: sqlite3.Cursor, head: Head) -> None:
    """Put a head in the place of the one before."""
    stored = (head.checkpoint, head.resumed, head.released_ms, head.mac)
    cursor.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?)", stored)
