"""The clear head of a sealed model: what it is called, how long it is, and how its chunks lie.

It is JSON in one encoding only: read, written again and compared, so no two headers mean the same. Nothing in it is
believed before the first chunk has opened, except as a bound on what to read next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from cloister.errors import InvalidRequest
from cloister.seal.names import check_file, check_model

MAGIC: Final = b"CLOISTR\x01"
PREFIX_BYTES: Final = len(MAGIC) + 4
MAX_HEADER_BYTES: Final = 256 * 1024
MAX_FILES: Final = 1024
MIN_CHUNK_BYTES: Final = 4 << 10
MAX_CHUNK_BYTES: Final = 4 << 20
MAX_CHUNKS: Final = 1 << 32
TAG_BYTES: Final = 16
FILE_ID_BYTES: Final = 16
SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a sealed model says of itself.

    Attributes:
        file_id: 16 random bytes.
        salt: 32 random bytes, for the file's key.
        chunk_bytes: Plaintext in each chunk but the last, 4 KiB to 4 MiB.
        files: Name and length in bytes of each file inside, in order.
    """

    file_id: bytes
    salt: bytes
    chunk_bytes: int
    name: str
    version: int
    files: tuple[tuple[str, int], ...]

    @property
    def length_bytes(self) -> int:
        """Length of the plaintext."""
        return sum(size for _, size in self.files)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.length_bytes // self.chunk_bytes)

    @property
    def sealed_bytes(self) -> int:
        """Length of the whole sealed file."""
        return len(self.encode()) + self.length_bytes + TAG_BYTES * self.chunks

    def encode(self) -> bytes:
        """Return magic, length and header as they stand before chunk 0."""
        members = {
            "file_id": self.file_id.hex(),
            "salt": self.salt.hex(),
            "chunk_bytes": self.chunk_bytes,
            "name": self.name,
            "version": self.version,
            "files": [[name, size] for name, size in self.files],
        }
        raw = json.dumps(members, separators=(",", ":")).encode()
        return MAGIC + len(raw).to_bytes(4, "big") + raw

    def check(self) -> None:
        """Check that a file with this header can exist.

        Raises:
            InvalidRequest: A name or size is out of bounds, a name is given twice, or there is nothing inside.
        """
        check_model(self.name, self.version)
        for name, size in self.files:
            check_file(name)
            if type(size) is not int or size < 0:
                raise InvalidRequest("a file in a model has a length")
        if not 0 < len({name for name, _ in self.files}) == len(self.files) <= MAX_FILES:
            raise InvalidRequest(f"a sealed model holds 1 to {MAX_FILES} files, each name once")
        if type(self.chunk_bytes) is not int or not MIN_CHUNK_BYTES <= self.chunk_bytes <= MAX_CHUNK_BYTES:
            raise InvalidRequest(f"chunks have {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} bytes")
        if not 0 < self.chunks < MAX_CHUNKS:
            raise InvalidRequest("the model is empty, or too long for its chunks")
        if (len(self.file_id), len(self.salt)) != (FILE_ID_BYTES, SALT_BYTES):
            raise InvalidRequest("file id or salt has another length")


def header_length(prefix: bytes) -> int:
    """Return how long the header after these `PREFIX_BYTES` is.

    Raises:
        InvalidRequest: Not the start of a sealed model, or the header is too long.
    """
    length = int.from_bytes(prefix[len(MAGIC) :], "big")
    if len(prefix) != PREFIX_BYTES or not prefix.startswith(MAGIC) or not 0 < length <= MAX_HEADER_BYTES:
        raise InvalidRequest("not a sealed model of this version")
    return length


def decode(preamble: bytes) -> Header:
    """Read magic, length and header.

    Raises:
        InvalidRequest: Anything but the one encoding of a header that can be.
    """
    try:
        header = _read(json.loads(preamble[PREFIX_BYTES:]))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the header of the sealed model is malformed") from error
    header.check()
    if header.encode() != preamble:
        raise InvalidRequest("the header of the sealed model is not in its one encoding")
    return header


def _read(members: object) -> Header:
    match members:
        case {
            "file_id": str(file_id),
            "salt": str(salt),
            "chunk_bytes": int(chunk_bytes),
            "name": str(name),
            "version": int(version),
            "files": list(files),
        }:
            return Header(
                file_id=bytes.fromhex(file_id),
                salt=bytes.fromhex(salt),
                chunk_bytes=chunk_bytes,
                name=name,
                version=version,
                files=tuple(_read_entry(entry) for entry in files),
            )
    raise ValueError("the header has not its members")


def _read_entry(entry: object) -> tuple[str, int]:
    match entry:
        case [str(name), int(size)]:
            return name, size
    raise ValueError("not a name and a length")
