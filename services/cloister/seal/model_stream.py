"""What sealing and opening a model share: the chunk ciphers in their order, and reading that insists on lengths."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.errors import SealBroken
from cloister.seal import hpke
from cloister.seal.keys import KEY_BYTES, Secret, derive
from cloister.seal.model_header import TAG_BYTES, Header

_DIGEST_LABEL: Final = b"cloister model digest v1"
_PREFIX_BYTES: Final = 7


class Source(Protocol):
    """What a sealed model or a file for one is read from, such as a file opened in binary mode."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer, or less of it; 0 at the end."""
        ...


class SeekableSource(Source, Protocol):
    """A source that can tell its length."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move, and return the new position."""
        ...


class MemorySource:
    """A source that lies in memory, and is not copied."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Source`."""
        taken = min(len(buffer), len(self._content) - self._at)
        buffer[:taken] = self._content[self._at : self._at + taken]
        self._at += taken
        return taken

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """See `SeekableSource`; raises ValueError for what is not inside."""
        at = (0, self._at, len(self._content))[whence] + offset
        if not 0 <= at <= len(self._content):
            raise ValueError("there is nothing there")
        self._at = at
        return at


class ChunkStream:
    """The chunks of one file, in order: one key, a nonce for each number, and the digest over the tags.

    Attributes:
        preamble: What stands before chunk 0.
    """

    def __init__(self, header: Header, key: Secret) -> None:
        info = hpke.context("cloister model file v1", header.file_id, header.name, header.version)
        derived = derive(key, salt=header.salt, info=info, length=KEY_BYTES + _PREFIX_BYTES)
        self.preamble = header.encode()
        self._aead = AESGCM(derived.view[:KEY_BYTES])
        self._prefix = bytes(derived.view[KEY_BYTES:])
        derived.wipe()
        self._aad = hashlib.sha256(self.preamble).digest()
        self._digest = digest_begun(self._aad)
        self._next = 0
        self._chunks = header.chunks

    def seal(self, plain: memoryview, sealed: memoryview) -> memoryview:
        """Encrypt the next chunk into `sealed`, 16 bytes longer, and return that."""
        self._aead.encrypt_into(self._nonce(), plain, self._aad, sealed)
        self._digest.update(sealed[-TAG_BYTES:])
        return sealed

    def open(self, sealed: memoryview, plain: memoryview) -> None:
        """Decrypt the next chunk into `plain`, 16 bytes shorter.

        Raises:
            SealBroken: Not this chunk of this file.
        """
        try:
            self._aead.decrypt_into(self._nonce(), sealed, self._aad, plain)
        except InvalidTag:
            raise SealBroken from None
        self._digest.update(sealed[-TAG_BYTES:])

    def digest(self) -> bytes:
        """Return the model digest over the chunks so far."""
        return self._digest.digest()

    def _nonce(self) -> bytes:
        number, self._next = self._next, self._next + 1
        return self._prefix + number.to_bytes(4, "big") + bytes([number == self._chunks - 1])


def digest_begun(preamble_hash: bytes) -> hashlib._Hash:
    """Return the model digest before the first tag, from the SHA-256 of the preamble."""
    return hashlib.sha256(_DIGEST_LABEL + preamble_hash)


def read(source: Source, length: int) -> bytes:
    """Return exactly the next `length` bytes.

    Raises:
        SealBroken: There are not so many.
    """
    buffer = bytearray(length)
    fill(source, memoryview(buffer))
    return bytes(buffer)


def fill(source: Source, view: memoryview, short: Exception | None = None) -> None:
    """Fill the whole view from the source; raises `short`, or SealBroken, if the source ends before."""
    while view:
        got = source.readinto(view)
        if not got or not 0 < got <= len(view):  # a host may say anything
            raise short or SealBroken()
        view = view[got:]


def expect_end(source: Source, longer: Exception | None = None) -> None:
    """Check that the source has ended; raises `longer`, or SealBroken, if it has not."""
    if source.readinto(memoryview(bytearray(1))):
        raise longer or SealBroken()
