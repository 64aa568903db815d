"""What an auditor remembers of a log: whose signatures count, and the newest head that was found good.

One small file in the mesh folder. Whoever can change it can have the auditor believe another log: it belongs where the
provisioner's operator does not write.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloister.client.log_checks import LogKeys
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.log_origin import LogOrigin
from cloister.rpc.files import read_guarded, replace_private
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.cosignature import WitnessKey
from cloister.tlog.note import SignedNote

FORMAT: Final = "cloister audit memory v1"
FILE: Final = "audit.json"


@dataclass(frozen=True, slots=True)
class Remembered:
    """Pinned keys, and the newest head, with its signatures."""

    keys: LogKeys
    note: SignedNote

    @property
    def head(self) -> Checkpoint:
        """The head."""
        return Checkpoint.parse(self.note.text)

    @property
    def generation(self) -> int:
        """Of the log that it is of."""
        return LogOrigin.parse(self.head.origin).generation


class AuditMemory:
    """The file of one auditor about one mesh."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Remembered | None:
        """What is remembered; None before the first contact.

        Raises:
            InvalidRequest: The file is not what it should be.
            NotReady: It lies open to changes by others.
        """
        if not self.path.exists():
            return None
        try:
            found: Any = json.loads(read_guarded(self.path))
            if found["format"] != FORMAT:
                raise ValueError("another format")
            witnesses = frozenset(WitnessKey.from_vkey(each) for each in found["witnesses"])
            note = SignedNote.parse(found["checkpoint"])
            LogOrigin.parse(Checkpoint.parse(note.text).origin)
            log = bytes.fromhex(found["log_key"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidRequest) as error:
            raise InvalidRequest(
                f"{self.path} is not what 'cloister audit verify' wrote; put back the right one",
                reason="memory.malformed",
            ) from error
        return Remembered(LogKeys(log, witnesses), note)

    def write(self, remembered: Remembered) -> None:
        """Remember this in place of what was; raises NotReady where it cannot be written."""
        content = {
            "format": FORMAT,
            "log_key": remembered.keys.log.hex(),
            "witnesses": sorted(each.vkey for each in remembered.keys.witnesses),
            "checkpoint": str(remembered.note),
        }
        try:
            replace_private(self.path, json.dumps(content, indent=2).encode() + b"\n")
        except OSError as error:
            raise NotReady(f"{self.path} cannot be written: {error.strerror}", reason="memory.unwritable") from error
