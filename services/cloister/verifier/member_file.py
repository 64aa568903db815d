"""Members and the pins of their keys in a file on this machine, so that a verifier which restarts knows them again.

SQLite in WAL mode: what was written outlives the process, killed or not. Ends are wall-clock times, for a monotonic
clock does not outlive a machine; no clock can make a member live longer than a membership from the restart on. An older
copy of the file put in its place can bring back a member that has left since, until its own Attestation Result ends,
and forget a pin made since; it makes nobody a member who never was. Blocking; the store's calls leave the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, Unavailable
from cloister.verifier.member import Keys, MemberRecord

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pins (
    instance TEXT PRIMARY KEY, keys BLOB NOT NULL, ends_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    instance TEXT PRIMARY KEY, rank INTEGER NOT NULL, record BLOB NOT NULL,
    collateral_sha256 BLOB NOT NULL, ends_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS collateral (sha256 BLOB PRIMARY KEY, content BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS pins_end ON pins (ends_at_ms);
CREATE INDEX IF NOT EXISTS members_end ON members (ends_at_ms);
CREATE INDEX IF NOT EXISTS members_collateral ON members (collateral_sha256);
"""


class MemberFile:
    """The `MemberStore` of one verifier; `opened` makes one."""

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, now: Callable[[], datetime]) -> Iterator[MemberFile]:
        """The file at `path`, made with mode 0600 if it is not there.

        Raises:
            NotReady: It cannot be opened, or is damaged (`members.lost`).
        """
        try:
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
        except (sqlite3.Error, OSError) as error:
            raise _lost(path) from error
        kept = cls(connection, now)
        try:
            try:
                for setting in ("journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF"):
                    connection.execute(f"PRAGMA {setting}")
                connection.executescript(_SCHEMA)
            except sqlite3.Error as error:
                raise _lost(path) from error
            yield kept
        finally:
            # Whoever was cancelled may still be writing in a thread; SQLite must not lose its connection under it.
            with kept._lock:
                connection.close()

    async def pin(self, instance: str, keys: Keys, *, life_s: float) -> None:
        """See `MemberStore`."""
        await asyncio.to_thread(self._pin, instance, keys, life_s)

    async def put(self, record: MemberRecord, *, life_s: float) -> None:
        """See `MemberStore`."""
        await asyncio.to_thread(self._put, record, life_s)

    def records(self, *, max_life_s: float) -> list[tuple[MemberRecord, float]]:
        """All that is kept and has not ended, and for how many seconds each still counts: `max_life_s` at most.

        Raises:
            NotReady: The file is damaged (`members.lost`).
        """
        now_ms = self._now_ms()
        try:
            rows = self._connection.execute(
                "SELECT record, sha256, content, ends_at_ms FROM members "
                "JOIN collateral ON sha256 = collateral_sha256 WHERE ends_at_ms > ?",
                (now_ms,),
            ).fetchall()
            return [
                (MemberRecord.decoded(raw)[0].completed(content, sha256), min((ends_ms - now_ms) / 1000, max_life_s))
                for raw, sha256, content, ends_ms in rows
            ]
        except (sqlite3.Error, InvalidRequest) as error:
            raise _lost(Path("the file of members")) from error

    def _pin(self, instance: str, keys: Keys, life_s: float) -> None:
        now_ms, packed = self._now_ms(), keys.lasting
        with self._writing() as connection:
            connection.execute("DELETE FROM pins WHERE ends_at_ms <= ?", (now_ms,))
            held = connection.execute("SELECT keys FROM pins WHERE instance = ?", (instance,)).fetchone()
            if held is not None and held[0] != packed:
                raise EvidenceRejected("this instance is known with other keys", reason="instance.keys_changed")
            connection.execute(
                "INSERT INTO pins VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET ends_at_ms = max(ends_at_ms, excluded.ends_at_ms)",
                (instance, packed, now_ms + int(life_s * 1000)),
            )

    def _put(self, record: MemberRecord, life_s: float) -> None:
        now_ms, sha256, member = self._now_ms(), record.collateral_sha256, record.member
        with self._writing() as connection:
            connection.execute("DELETE FROM members WHERE ends_at_ms <= ?", (now_ms,))
            connection.execute("INSERT OR IGNORE INTO collateral VALUES (?, ?)", (sha256, member.collateral))
            connection.execute(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rank = excluded.rank, "
                "record = excluded.record, collateral_sha256 = excluded.collateral_sha256, "
                "ends_at_ms = excluded.ends_at_ms WHERE rank < excluded.rank",
                (member.instance, record.rank, record.encoded(), sha256, now_ms + int(life_s * 1000)),
            )
            connection.execute(
                "DELETE FROM collateral WHERE NOT EXISTS (SELECT 1 FROM members WHERE collateral_sha256 = sha256)"
            )

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or nothing."""
        try:
            with self._lock, self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
        except sqlite3.Error as error:
            raise Unavailable("the verifier's state cannot be written", reason="state.unavailable") from error


def _lost(path: Path) -> NotReady:
    return NotReady(
        f"{path} cannot be used; remove it to begin again, and every worker attests anew", reason="members.lost"
    )
