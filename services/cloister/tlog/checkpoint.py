"""Checkpoints (c2sp.org/tlog-checkpoint): the head of a log as the text of a signed note."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from cloister.errors import InvalidRequest
from cloister.tlog.merkle import HASH_BYTES, root
from cloister.tlog.note import check_text, strict_b64decode

MAX_SIZE: Final = 2**63 - 1
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of one log.

    Attributes:
        origin: Names the log.
        size: Number of its leaves.
        root: Of its Merkle tree (RFC 6962), 32 bytes.
        extensions: Further lines, whatever they mean; kept as they are.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not line or "\n" in line for line in (self.origin, *self.extensions)):
            raise _malformed("its origin and each further line is one line that is not empty")
        if not 0 <= self.size <= MAX_SIZE:
            raise _malformed("its size is no number of leaves")
        if len(self.root) != HASH_BYTES or (self.size == 0 and self.root != root([])):
            raise _malformed("its root is not the hash of such a tree")
        check_text(self.text)

    @property
    def text(self) -> str:
        """The text of its note."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note.

        Raises:
            InvalidRequest: It is no checkpoint (`checkpoint.malformed`, `note.malformed`).
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop():
            raise _malformed("it has three lines or more, and each ends")
        origin, size, encoded_root, *extensions = lines
        if not _SIZE.fullmatch(size):
            raise _malformed("its size is no number of leaves")
        return cls(origin, int(size), strict_b64decode(encoded_root), tuple(extensions))


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"not a checkpoint of a log: {why}", reason="checkpoint.malformed")
