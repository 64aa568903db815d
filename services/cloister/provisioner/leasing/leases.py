"""The leases that go: who was given which key, and until when (docs/decisions/0057-leases.md).

One row for each worker and version, written with the line that released the key. The line is what counts; a row says
nothing that lines do not, and serves to find them: it is not vouched for, and nobody is given anything because of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from cloister.provisioner.leasing.watch import GivenLease
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import Look

FORGET_EVERY: Final = 16
"""Leases that have ended are deleted with a line in so many: until then they are in nobody's way."""


class Going(NamedTuple):
    """The leases of one version of a model, or of all of them, that go now.

    Attributes:
        workers: Who hold one.
        until_ms: When the last of them ends, Unix time; 0 where there is none.
    """

    workers: int = 0
    until_ms: int = 0


def give(change: Change, lease_id: str, instance: str, lease: GivenLease, *, now_ms: int, ends_ms: int) -> None:
    """Keep a lease, in the place of the one before it, and now and then forget those that have ended."""
    if lease.sequence % FORGET_EVERY == 0:
        change.cursor.execute("DELETE FROM lease WHERE ends_ms <= ?", (now_ms,))
    row = (instance, lease.name, lease.version, lease_id, lease.sequence, ends_ms)
    change.cursor.execute("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?)", row)


def going(look: Look, now_ms: int) -> Mapping[tuple[str, int], Going]:
    """What goes now, by name and version."""
    rows = look.cursor.execute(
        "SELECT name, version, count(*), max(ends_ms) FROM lease WHERE ends_ms > ? GROUP BY name, version", (now_ms,)
    )
    return {(row[0], row[1]): Going(*row[2:]) for row in rows}


class Leases:
    """Looks at the leases of a ledger. Blocking and thread safe.

    Args:
        ledger: Has them.
        now: Aware.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._now = now

    def given(self, instance: str, lease_ids: Collection[str]) -> Mapping[str, GivenLease]:
        """Of these lease ids, those that this instance was given and that go still."""
        now_ms, wanted = self._now_ms(), frozenset(lease_ids)
        with self._ledger.looking() as look:
            rows = look.cursor.execute(
                "SELECT lease_id, name, version, sequence FROM lease WHERE instance = ? AND ends_ms > ?",
                (instance, now_ms),
            ).fetchall()
        return {row[0]: GivenLease(*row[1:]) for row in rows if row[0] in wanted}

    def going(self) -> Mapping[tuple[str, int], Going]:
        """What goes now, by name and version."""
        now_ms = self._now_ms()
        with self._ledger.looking() as look:
            return going(look, now_ms)

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)
