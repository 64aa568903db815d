"""Whether the copy of a secret, which is kept for recovery, is sealed to the recovery key in force."""

from __future__ import annotations

from typing import Final

from cloister.errors import NotReady
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.tables import RECOVERY_KEY
from cloister.seal.recovery import generation_of

NAME: Final = "recovery"
"""Of the recovery key's rows."""


def check_copy(look: Look, copy: bytes) -> None:
    """Check, in a change, that a copy is sealed to the recovery key in force.

    Raises:
        NotReady: Another was dealt since it was made (`recovery.dealt`).
    """
    if generation_of(copy) != look.newest(RECOVERY_KEY, NAME):
        raise NotReady("a recovery key was dealt at this moment; ask again", reason="recovery.dealt")
