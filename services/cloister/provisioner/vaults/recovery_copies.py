"""Copies of what is kept, sealed to the recovery key in force: made wherever a secret is wrapped."""

from __future__ import annotations

from cloister.provisioner.vaults.vault import Record
from cloister.seal.keys import Secret
from cloister.seal.recovery import seal_copy


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
