"""The opening of a ledger: a new log is begun, or what is there is checked before anything is believed.

Of a log that is there, whatever its length, a start reads one line for each level of its tree, and every row. The head
must be signed by the log's key, the nodes beside those lines must lead to it, and the index of rows must be the one
that it was signed with. A row that is not as the index says is named, and nobody is given it. What a start leaves out
are the lines themselves, which change nothing in what is released: `log_check` reads them while the service runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Final

from cloister.errors import LogBroken, NotReady, SealBroken
from cloister.kit.log_origin import LogOrigin
from cloister.provisioner.ledger import head as heads
from cloister.provisioner.ledger import lines
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.database import Database, translated
from cloister.provisioner.ledger.earlier_files import EarlierFiles
from cloister.provisioner.ledger.head import SEED_BYTES, LogKey
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.log import State
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.marks import FIRST_GENERATION, Marks
from cloister.provisioner.ledger.tables import LOG_KEY, TABLES, Key
from cloister.provisioner.ledger.vouched import Pending, Vouch, Vouched
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.vault import LogKeyId, Wrapped
from cloister.seal.keys import Secret
from cloister.tlog.merkle import Frontier

_KEY: Final = Key("log")


def utc_now() -> datetime:
    """The present, aware."""
    return datetime.now(UTC)


@contextmanager
def opened(
    database: Database, keyring: Keyring, *, cluster: str, now: Callable[[], datetime] = utc_now
) -> Iterator[Ledger]:
    """The ledger in a file; a new one where there is none, which takes over what earlier versions left beside it.

    Raises:
        NotReady: The file was edited (`store.altered`), or what is taken over was wrapped with another root key.
        LogBroken: The log in it does not hold together.
        Unavailable: It cannot be read or written, or the vault does not answer.
    """
    earlier = EarlierFiles(database.path.parent)
    with translated():
        key = _key(database, keyring, cluster)
        earlier.set_aside(begun=key is not None)
    if key is not None:
        ledger, begin = with_key(database, key, now), None
    else:
        ledger, begin = _new(database, keyring, cluster, now, earlier)
    with ledger.writing():
        if begin is not None:
            ledger.change(begin)
        earlier.remove()
        yield ledger


def with_key(database: Database, key: LogKey, now: Callable[[], datetime] = utc_now) -> Ledger:
    """The ledger of a log that is there, by its unwrapped key, checked; raises as `opened`."""
    with translated():
        return Ledger(database, key, *_checked(database, key), now)


def _key(database: Database, keyring: Keyring, cluster: str) -> LogKey | None:
    """The log's key; None where no log has begun."""
    with closing(database.writing.cursor()) as cursor:
        row = cursor.execute(LOG_KEY.selected).fetchone()
        if row is None:
            if lines.size(cursor) or heads.stored(cursor) is not None:
                raise _altered("the key of the log is missing from")
            return None
    _name, public, _copy, wrapped_key, root_key_id = row
    try:
        seed = keyring.unwrap(LogKeyId(cluster, public), Wrapped(wrapped_key, root_key_id))
    except SealBroken:
        raise _altered("the key of the log is not as it was written in") from None
    return LogKey(cluster, seed)


def _new(
    database: Database, keyring: Keyring, cluster: str, now: Callable[[], datetime], earlier: EarlierFiles
) -> tuple[Ledger, Callable[[Change], None]]:
    """An empty ledger, and the change that begins it."""
    seed = Secret.random(SEED_BYTES)
    key = LogKey(cluster, seed)
    wrapped = keyring.wrap(LogKeyId(cluster, key.public), seed)
    tree, rows = Frontier(), Vouched()
    state = State(tree, key.head(tree, Marks(), rows.digest()), Marks())

    def begin(change: Change) -> None:
        earlier.take_over(change)
        keyring.check_opens(database.root_key_ids())  # of what was taken over
        change.put(LOG_KEY, _KEY, key.public, wrapped.recovery_copy, wrapped.content, wrapped.root_key_id)
        change.line("log.begun", origin=str(LogOrigin(cluster, FIRST_GENERATION)), log_key=key.public.hex())

    return Ledger(database, key, state, rows, now), begin


def _checked(database: Database, key: LogKey) -> tuple[State, Vouched]:
    with closing(database.writing.cursor()) as cursor:
        head = heads.stored(cursor)
        if head is None:
            raise _altered("the head of the log is missing from")
        checkpoint, marks = key.opened(head)
        if lines.size(cursor) != checkpoint.size:
            raise LogBroken(
                f"the log has {lines.size(cursor)} lines, and its head is of {checkpoint.size}", reason="log.truncated"
            )
        tree = lines.tree_of(cursor, checkpoint.size)
        if tree.root() != checkpoint.root:
            raise LogBroken("the lines of the log do not lead to its signed head", reason="line.altered")
        rows = _rows(cursor)
        key.check_rows(head, checkpoint, rows.digest())
        _name_altered(cursor, rows)
    return State(tree, head, marks), rows


def _rows(cursor: sqlite3.Cursor) -> Vouched:
    known = {table.name: table for table in TABLES}
    rows = Vouched()
    read = Pending(rows)
    for table, name, number, sequence, sha256 in cursor.execute("SELECT * FROM vouched"):
        if table not in known:
            raise _altered("a table that is not known is named in")
        read.put(known[table], Key(name, number), Vouch(sequence, sha256))
    rows.take(read)
    return rows


def _name_altered(cursor: sqlite3.Cursor, rows: Vouched) -> None:
    """Log which rows are not as the index says, as whoever asks for one of them will hear."""
    look = Look(cursor, rows)
    for table in TABLES:
        stored = {str(name) for (name,) in cursor.execute(f"SELECT DISTINCT {table.key[0]} FROM {table.name}")}  # noqa: S608  # constants
        for name in sorted(stored | rows.names(table)):
            look.name_altered(table, name)


def _altered(what: str) -> NotReady:
    return NotReady(f"{what} the state; put the state back as it was", reason="store.altered")
