"""What happens in recovery, until the log can tell of it: its key is among those that are lost.

The attempts lie beside the state, in order. Nobody vouches for them: until the log's key is back, whoever has the disk
can delete them. With the restoring they become lines of the log.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from cloister.kit.log import get_logger
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.database import Database, translated

MOST: Final = 10_000
"""So many are kept; sessions pause after too many refusals, so it takes days of them to come there."""
_log = get_logger()


class RecoveryAttempts:
    """The attempts in one file. Used by one thread at a time.

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, event: str, **fields: str | int) -> None:
        """Note one.

        Raises:
            Unavailable: It cannot be written (`record.unavailable`).
        """
        _log.warning(event, **fields)
        noted = json.dumps({"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields})
        with translated():
            self._database.writing.execute(
                "INSERT INTO recovery_attempt (noted) SELECT ? WHERE (SELECT count(*) FROM recovery_attempt) < ?",
                (noted, MOST),
            )

    def tell(self, change: Change) -> None:
        """Make lines of them all, in a change."""
        for (noted,) in change.cursor.execute("SELECT noted FROM recovery_attempt ORDER BY id").fetchall():
            fields = json.loads(noted)
            change.line(fields.pop("event"), **fields)
        change.cursor.execute("DELETE FROM recovery_attempt")
