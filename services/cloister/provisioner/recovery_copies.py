"""Copies of what is kept, sealed to the recovery key in force: made wherever a secret is wrapped."""

from __future__ import annotations

from typing import Final

from cloister.errors import NotReady
from cloister.provisioner.look import Look
from cloister.provisioner.tables import RECOVERY_KEY
from cloister.provisioner.vault import Record
from cloister.seal.keys import Secret
from cloister.seal.recovery import generation_of, seal_copy

NAME: Final = "recovery"
"""Of the recovery key's rows."""


class RecoveryCopies:
    """Seals copies. Thread safe: another recovery key may be dealt meanwhile."""

    def __init__(self) -> None:
        self._in_force: tuple[str, int, bytes] | None = None

    def turn_to(self, cluster: str, generation: int, public: bytes) -> None:
        """Seal to this recovery key of a mesh from now on."""
        self._in_force = (cluster, generation, public)

    def copy(self, record: Record, secret: Secret) -> bytes:
        """A copy of a secret; empty while no recovery key was dealt."""
        in_force = self._in_force
        if in_force is None:
            return b""
        cluster, generation, public = in_force
        return seal_copy(public, secret, record.aad(), cluster=cluster, generation=generation)


def check_copy(look: Look, copy: bytes) -> None:
    """Check, in a change, that a copy is sealed to the recovery key in force.

    Raises:
        NotReady: Another was dealt since it was made (`recovery.dealt`).
    """
    if generation_of(copy) != look.newest(RECOVERY_KEY, NAME):
        raise NotReady("a recovery key was dealt at this moment; ask again", reason="recovery.dealt")
