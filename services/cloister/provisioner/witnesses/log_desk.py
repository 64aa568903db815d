"""What auditors and owners ask of the record besides its lines: its head, and proofs. Blocking but for the head."""

from __future__ import annotations

from collections.abc import Sequence

from cloister.errors import InvalidRequest
from cloister.provisioner.witnesses.link import WitnessedLog
from cloister.provisioner.witnesses.witnessed import Witnessed
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import Ed25519Key, SignedNote


class LogDesk:
    """Answers for one log.

    Args:
        log: The record.
        witnessed: Has the head that was countersigned.
    """

    def __init__(self, log: WitnessedLog, witnessed: Witnessed) -> None:
        self._log = log
        self._witnessed = witnessed

    def checkpoint(self) -> tuple[str, str]:
        """The newest head that was countersigned since the start, or else the newest; and the key it is signed with."""
        text = self._witnessed.countersigned() or self._log.checkpoint()
        origin = Checkpoint.parse(SignedNote.parse(text).text).origin
        return text, Ed25519Key(origin, self._log.log_key()).vkey

    def inclusion(self, sequence: int, size: int) -> Sequence[bytes]:
        """Prove that a line is among the first `size`.

        Raises:
            InvalidRequest: It is not, or there are not so many (`proof.impossible`).
        """
        if not 1 <= sequence <= size <= self._log.size():
            raise InvalidRequest(f"the record has {self._log.size()} lines", reason="proof.impossible")
        return self._log.inclusion(sequence, size)

    def consistency(self, old_size: int, new_size: int) -> Sequence[bytes]:
        """Prove that the first `new_size` lines begin with the first `old_size`; raises as `inclusion`."""
        if not old_size <= new_size <= self._log.size():
            raise InvalidRequest(f"the record has {self._log.size()} lines", reason="proof.impossible")
        return self._log.consistency(old_size, new_size)
