"""The ledger: what the provisioner holds, and the log of what it did, changed together or not at all.

A change is a function of one `Change`: it writes rows, and the line that vouches for them. One thread runs changes;
what comes while it waits for the disk goes into its next transaction (`kit/group_commit.py`), each change in a
savepoint, so one that is refused spoils no other. With a group the log's new head is signed and written. Whoever asked
is told when all that is on disk. No line, no change; no log, no release.

What is read is checked against what the log says of it, which the process keeps in memory from its start on. `append`,
`change` and looks block; `appended` and `changed` are for the event loop. A look must not wait for a change.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from cloister.errors import NotReady
from cloister.kit.group_commit import GroupCommit
from cloister.kit.log import get_logger
from cloister.kit.record_line import Field
from cloister.provisioner.ledger import head as heads
from cloister.provisioner.ledger import lines
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.database import Database, translated, unavailable
from cloister.provisioner.ledger.head import LogKey
from cloister.provisioner.ledger.log import Log, State
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.marks import Marks
from cloister.provisioner.ledger.vouched import Pending, Vouched
from cloister.tlog.merkle import Frontier

_log = get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A change that somebody waits for, the call that it came of, and whether it is made whoever objects."""

    make: Callable[[Change], Any]
    context: contextvars.Context
    anyway: bool


class Ledger:
    """An open ledger. Thread safe; `opening.opened` makes one.

    Attributes:
        log: As others read it.

    Args:
        database: The file.
        key: Signs heads.
        state: Of the file, as it was checked.
        rows: What the log vouches for.
        now: Tells the time of lines; aware.
    """

    def __init__(
        self, database: Database, key: LogKey, state: State, rows: Vouched, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._key = key
        self._state = state
        self._rows = rows
        self._now = now
        self.log = Log(key.public, lambda: self._state, self.looking)
        self._commits = GroupCommit[_Asked](self._commit, name="ledger")
        self._may_write: Callable[[], None] = lambda: None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Take changes until the block ends."""
        with self._commits.running():
            yield

    def watch(self, *, may_write: Callable[[], None]) -> None:
        """Have somebody asked before each change, on the thread that writes; it raises where none may be made."""
        self._may_write = may_write

    def coming(self) -> AbstractContextManager[None]:
        """Say that a change is on its way, right behind the block, or none: others may be committed with it."""
        return self._commits.coming()

    def check(self) -> None:
        """Check that changes may be made now; raises what `watch` was given."""
        self._may_write()

    # Changes

    def change(self, make: Callable[[Change], T]) -> T:
        """Make a change and return what `make` does, once it is on disk.

        Args:
            make: Called on the thread that writes, which waits for it: nothing slow. What it raises is raised here, and
                nothing of it is kept.

        Raises:
            Unavailable: It cannot be written (`record.unavailable`); nothing has changed.
            NotReady: Nothing may be written now, and why.
        """
        result: T = self._submitted(make).result()
        return result

    async def changed(self, make: Callable[[Change], T], *, anyway: bool = False) -> T:
        """As `change`, without holding the event loop up. One that is cancelled may be made or not.

        Args:
            make: As for `change`.
            anyway: Whatever stands against writing; for what removes that.
        """
        result: T = await asyncio.wrap_future(self._submitted(make, anyway=anyway))
        return result

    def append(self, event: str, **fields: Field) -> int:
        """Write a line that changes nothing, and return its number; raises as `change`.

        Args:
            event: `noun.verbed`.
            fields: Plain values; never a secret.
        """
        return self.change(lambda change: change.line(event, **fields))

    async def appended(self, event: str, **fields: Field) -> int:
        """As `append`, without holding the event loop up. One that is cancelled may be written or not."""
        return await self.changed(lambda change: change.line(event, **fields))

    def _submitted(self, make: Callable[[Change], Any], *, anyway: bool = False) -> Future[Any]:
        return self._commits.submit(_Asked(make, contextvars.copy_context(), anyway))

    def _commit(self, group: Sequence[_Asked]) -> Sequence[Any]:
        with translated():
            return self._committed(group)

    def _committed(self, group: Sequence[_Asked]) -> list[Any]:
        cursor = self._database.writing.cursor()
        written, tree, marks = Pending(self._rows), self._state.tree, self._state.marks
        cursor.execute("BEGIN IMMEDIATE")
        try:
            if lines.size(cursor) != tree.size:
                raise NotReady("another process writes this state; stop one of them", reason="writer.other")
            outcomes = []
            for asked in group:
                change = Change(cursor, written, tree, marks, self._now)
                outcomes.append(outcome := self._outcome(asked, change, cursor))
                if not isinstance(outcome, Exception):
                    written.take(change.written)
                    tree, marks = change.tree, change.marks
            if tree is not self._state.tree:
                self._conclude(cursor, tree, marks, written)
        finally:
            if self._database.writing.in_transaction:
                cursor.execute("ROLLBACK")
            cursor.close()
        return outcomes

    def _outcome(self, asked: _Asked, change: Change, cursor: sqlite3.Cursor) -> Any:
        """What came of one change: a result, or the exception that is for whoever asked alone."""
        cursor.execute("SAVEPOINT change")
        try:
            if not asked.anyway:
                self._may_write()
            result = asked.context.run(asked.make, change)
            change.check_told()
        except Exception as error:
            if not self._database.writing.in_transaction:  # SQLite gave up the whole group
                raise
            cursor.execute("ROLLBACK TO change")
            cursor.execute("RELEASE change")
            return unavailable(error) if isinstance(error, sqlite3.Error) else error
        cursor.execute("RELEASE change")
        return result

    def _conclude(self, cursor: sqlite3.Cursor, tree: Frontier, marks: Marks, written: Pending) -> None:
        """Sign the head of a group and commit; whoever looks sees rows, and what is said of them, change at once."""
        head = self._key.head(tree, marks, self._rows.digest(written))
        heads.store(cursor, head)
        with self._database.lock if written else nullcontext():
            cursor.execute("COMMIT")
            self._rows.take(written)
            if any(vouch is None for _, vouch in written.items()):
                self._scrub()
        self._state = State(tree, head, marks)

    def _scrub(self) -> None:
        try:
            self._database.scrub()
        except sqlite3.Error as error:  # what was committed stays so; the next one, or the next start, does it
            _log.warning("ledger.not_scrubbed", error=error)

    # Looks

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """One look at what is committed; it must not wait for a change.

        Raises:
            Unavailable: It cannot be read (`record.unavailable`).
        """
        with translated(), self._database.lock:
            cursor = self._database.looking.cursor()
            try:
                yield Look(cursor, self._rows)
            finally:
                cursor.close()
