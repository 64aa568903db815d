"""Cosignatures (c2sp.org/tlog-cosignature, `cosignature/v1`): a witness says what it saw of a log, and when.

A cosignature means: of the log with this origin, the largest consistent head that I have seen at this time has this
root. It says nothing about what is in the log.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.errors import LogBroken
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import NoteKey, NoteSignature, SignedNote, verify_ed25519

COSIGNATURE_V1: Final = 0x04
"""Signature type of a timestamped Ed25519 cosignature."""
MAX_TIME_S: Final = 2**63 - 1
_TIME_BYTES: Final = 8


class WitnessKey(NoteKey):
    """The public key of a witness, whose signatures say when."""

    __slots__ = ()
    SIGNATURE_TYPE = COSIGNATURE_V1

    def verify(self, note: SignedNote) -> int:
        """Check that this witness has countersigned the checkpoint in the note.

        Returns:
            When, in Unix time.

        Raises:
            LogBroken: It has not (`cosignature.missing`), or not this one (`signature.invalid`).
        """
        claimed = note.by(self)
        if not claimed:
            raise LogBroken(f"the witness {self.name} has not countersigned it", reason="cosignature.missing")
        return max(self._time_s(each, note.text) for each in claimed)

    def _time_s(self, line: NoteSignature, text: str) -> int:
        time_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
        if not 0 < time_s <= MAX_TIME_S:
            raise LogBroken(f"the signature of {self.name} has no time", reason="signature.invalid")
        verify_ed25519(self.public, line.signature[_TIME_BYTES:], _message(text, time_s), name=self.name)
        return time_s


class WitnessSigner:
    """The holder of a witness's key."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.key = WitnessKey(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self._private = key

    def cosign(self, checkpoint: Checkpoint, *, time_s: int) -> NoteSignature:
        """Countersign a checkpoint that was found consistent with all before it, at a Unix time of 1 or later."""
        signature = self._private.sign(_message(checkpoint.text, time_s))
        return NoteSignature(self.key.name, self.key.key_id, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def _message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
