"""What the witness must never forget, on this machine: the log's key, and the newest head that it countersigned.

SQLite in WAL mode, synced before anything is countersigned, and locked: two processes that countersign by one memory
would each go its own way. An older copy put in its place lets a log go back to where it was then, so this file is as
worthy of care as the keys beside it; other witnesses, and auditors, remember too.
Blocking; used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.kit.log_origin import LogOrigin
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import Ed25519Key, SignedNote

WAIT_S: Final = 5.0
"""For a process that has it open, and is ending."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS witnessed (
    log INTEGER PRIMARY KEY CHECK (log = 1), log_key TEXT NOT NULL, note TEXT NOT NULL, writer BLOB NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What is known of the log.

    Attributes:
        log_key: Its key, from first sight on; named by the newest generation's origin.
        note: The newest head, signed by the log and countersigned.
        writer: Who writes it; empty for nobody.
    """

    log_key: Ed25519Key
    note: SignedNote
    writer: bytes

    @property
    def head(self) -> Checkpoint:
        """The head in `note`."""
        return Checkpoint.parse(self.note.text)

    @property
    def origin(self) -> LogOrigin:
        """Of the head."""
        return LogOrigin.parse(self.head.origin)


class WitnessFile:
    """The file; `opened` makes one."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[WitnessFile]:
        """The file at `path`, made with mode 0600 if it is not there.

        Raises:
            NotReady: It cannot be opened, or is damaged (`witness.lost`); or another process has it open
                (`witness.taken`).
        """
        try:
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=WAIT_S)
        except (sqlite3.Error, OSError) as error:
            raise lost(path) from error
        with closing(connection):
            try:
                for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "trusted_schema=OFF"):
                    connection.execute(f"PRAGMA {setting}")
                connection.executescript(_SCHEMA)
            except sqlite3.Error as error:
                raise (_taken(path) if error.sqlite_errorcode == sqlite3.SQLITE_BUSY else lost(path)) from error
            yield cls(connection, path)

    def load(self) -> Witnessed | None:
        """What was saved last; raises NotReady (`witness.lost`) where that cannot be told."""
        try:
            row = self._connection.execute("SELECT log_key, note, writer FROM witnessed").fetchone()
            return None if row is None else Witnessed(Ed25519Key.from_vkey(row[0]), SignedNote.parse(row[1]), row[2])
        except (sqlite3.Error, CloisterError) as error:
            raise lost(self._path) from error

    def save(self, known: Witnessed) -> None:
        """Keep this in place of what was kept before; it is on disk when this returns.

        Raises:
            Unavailable: It is not, and what was kept before stays.
        """
        row = (known.log_key.vkey, str(known.note), known.writer)
        try:
            self._connection.execute("INSERT OR REPLACE INTO witnessed VALUES (1, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise Unavailable("the witness's state cannot be written", reason="state.unavailable") from error


def _taken(path: Path) -> NotReady:
    return NotReady(
        f"another verifier has {path} open; each needs a state_dir of its own, and is a witness by itself",
        reason="witness.taken",
    )


def lost(path: Path) -> NotReady:
    """The error for what is damaged, or gone."""
    return NotReady(
        f"{path} cannot be used, which says how far the provisioner's log had come; put back the newest copy of it",
        reason="witness.lost",
    )
