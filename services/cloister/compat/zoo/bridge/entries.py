"""What their clients put into a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

MAX_URI_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as it lies in a stream.

    Attributes:
        entry_id: As Redis names it; it is never given to another.
        uri: What its client asks for the result by; None where it names none, so that nobody can ask.
        payload: Base64 of an Arrow stream; None where there is none, or where it is not held here any more.
        serde: Form of the payload, where the client says one.
        is_there: False where the stream has it no more: somebody trimmed or deleted it before it was answered.
    """

    entry_id: str
    uri: bytes | None = None
    payload: bytes | None = field(default=None, repr=False)
    serde: bytes = b"arrow"
    is_there: bool = True

    @classmethod
    def of(cls, entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> Self:
        """Read what Redis returned."""
        name = entry_id.decode("ascii", "replace")
        if not fields:
            return cls(name, is_there=False)
        uri = fields.get(b"uri")
        if not uri or len(uri) > MAX_URI_BYTES:
            uri = None
        return cls(name, uri, fields.get(b"data"), fields.get(b"serde", b"arrow"))

    @property
    def size_bytes(self) -> int:
        """Of what is held of it."""
        return len(self.payload) if self.payload is not None else 0

    def without_payload(self) -> Entry:
        """The same, to wait for its answer with."""
        return Entry(self.entry_id, self.uri, None, self.serde, self.is_there)
