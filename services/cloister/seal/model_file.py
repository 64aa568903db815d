"""Sealed models: one streamed file that only the holder of the model key opens, whole or not at all.

    magic (8) ‖ header length (4) ‖ header (JSON) ‖ chunk 0 ‖ chunk 1 ‖ … ‖ final chunk

Integers are big-endian. The plaintext is the files one after another, in the header's order; each chunk but the last
holds `chunk_bytes` of it, with a 16-byte tag behind. Chunks are AES-256-GCM in the STREAM construction (Hoang,
Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015):

- key and nonce prefix: HKDF-SHA256 of the model key, salted by the header's random salt, over file id, name and
  version, so two files never share a key, and a file cannot be opened as another model or version;
- nonce: 7 bytes of prefix ‖ chunk number (4) ‖ 1 for the final chunk, else 0: no reordering, cutting or extending;
- associated data: SHA-256 of everything before chunk 0, so every chunk vouches for the whole header.

The model digest is SHA-256 over a label, that same hash, and all tags. It names one content to everybody but holders of
the key: who has it could make two files with equal tags. That is the owner and attested enclaves, whom a client trusts
for the model's content anyway; hashing the content too would cost five times as much as decrypting it.

Memory: sealing holds one chunk; opening holds the plaintext and one chunk, and allocates for the plaintext only after
the first chunk has vouched for the length. Sources are read forwards, once, and must end where they say.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.hazmat.primitives import constant_time

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal.keys import Secret
from cloister.seal.model_header import (
    FILE_ID_BYTES,
    PREFIX_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    Header,
    decode,
    header_length,
)
from cloister.seal.model_stream import ChunkStream, SeekableSource, Source, digest_begun, expect_end, fill, read

DEFAULT_CHUNK_BYTES: Final = 1 << 20  # stays in a core's cache between reading, encrypting and writing
MAX_MODEL_BYTES: Final = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedModel:
    """What sealing made.

    Attributes:
        digest: The model digest, 32 bytes.
        size_bytes: Length of the sealed file.
        header: As it stands in the file, in clear.
    """

    digest: bytes
    size_bytes: int
    header: Header


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model in clear, in memory only.

    Attributes:
        header: As it stands in the file.
        files: Content by name: read-only views of one buffer.
    """

    header: Header
    files: dict[str, memoryview] = field(repr=False)


def seal_model(
    files: Mapping[str, Path | SeekableSource],
    out: BinaryIO,
    key: Secret,
    *,
    name: str,
    version: int,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> SealedModel:
    """Seal files into one.

    Args:
        files: What to read for each name; a stream is read from its beginning.
        out: Written forwards only. If anything is raised, what was written is to be thrown away.
        key: The model key, 32 bytes.
        name: Of the model.
        version: Of the model.
        chunk_bytes: Plaintext in each chunk, 4 KiB to 4 MiB.
        progress: Called after each chunk with the bytes done and all there are.

    Raises:
        InvalidRequest: A name or size is out of bounds, or a file changed its length under our eyes.
    """
    header = Header(
        file_id=secrets.token_bytes(FILE_ID_BYTES),
        salt=secrets.token_bytes(SALT_BYTES),
        chunk_bytes=chunk_bytes,
        name=name,
        version=version,
        files=tuple((inner, _size(source)) for inner, source in files.items()),
    )
    header.check()
    stream = ChunkStream(header, key)
    out.write(stream.preamble)
    plain = memoryview(bytearray(min(chunk_bytes, header.length_bytes)))
    sealed = memoryview(bytearray(len(plain) + TAG_BYTES))
    done = 0
    for filled in _chunks(files, header, plain):
        out.write(stream.seal(plain[:filled], sealed[: filled + TAG_BYTES]))
        done += filled
        if progress is not None:
            progress(done, header.length_bytes)
    return SealedModel(digest=stream.digest(), size_bytes=header.sealed_bytes, header=header)


def _buffer(header: Header) -> memoryview:
    return memoryview(bytearray(header.length_bytes))


def open_model(
    source: Source,
    key: Secret,
    *,
    name: str,
    version: int,
    digest: bytes,
    max_bytes: int = MAX_MODEL_BYTES,
    buffer: Callable[[Header], memoryview] = _buffer,
) -> OpenModel:
    """Open a sealed model that must be the one of this name, version and digest.

    Args:
        source: Read forwards from where it stands, to its end.
        key: The model key.
        name: From the signed manifest, as are `version` and `digest`.
        version: See `name`.
        digest: See `name`.
        max_bytes: The longest plaintext to make room for.
        buffer: Makes that room: `length_bytes` that can be written; called once the first chunk is authentic.

    Raises:
        SealBroken: Another model, another key, or any byte changed, added or missing.
    """
    header = read_header(source)
    if (header.name, header.version) != (name, version) or header.length_bytes > max_bytes:
        raise SealBroken
    stream = ChunkStream(header, key)
    plain = _open_chunks(source, stream, header, buffer)
    expect_end(source)
    if not constant_time.bytes_eq(stream.digest(), digest):
        raise SealBroken
    return OpenModel(header=header, files=_cut(plain.toreadonly(), header))


def read_header(source: Source) -> Header:
    """Read the header from where `source` stands, and leave it before chunk 0. Not yet authenticated.

    Raises:
        SealBroken: Not a sealed model.
    """
    try:
        prefix = read(source, PREFIX_BYTES)
        return decode(prefix + read(source, header_length(prefix)))
    except InvalidRequest:
        raise SealBroken from None


def digest_of(source: SeekableSource) -> bytes:
    """Return the model digest of a sealed file, without its key and reading little more than the tags.

    Raises:
        SealBroken: Not a sealed model, or of another length than its header says.
    """
    source.seek(0)
    header = read_header(source)
    if source.seek(0, 2) != header.sealed_bytes:
        raise SealBroken
    preamble = header.encode()
    hashed = digest_begun(hashlib.sha256(preamble).digest())
    end = len(preamble)
    for index in range(header.chunks):
        end += _chunk_length(header, index) + TAG_BYTES
        source.seek(end - TAG_BYTES)
        hashed.update(read(source, TAG_BYTES))
    return hashed.digest()


def _open_chunks(
    source: Source, stream: ChunkStream, header: Header, buffer: Callable[[Header], memoryview]
) -> memoryview:
    """Decrypt all chunks into one buffer, made once the first has vouched for the header."""
    first = _chunk_length(header, 0)
    sealed = memoryview(bytearray(first + TAG_BYTES))
    head = memoryview(bytearray(first))
    fill(source, sealed)
    stream.open(sealed, head)
    plain = buffer(header)
    plain[:first] = head
    head[:] = bytes(first)  # the one other copy in the clear
    for index in range(1, header.chunks):
        begin, length = index * header.chunk_bytes, _chunk_length(header, index)
        fill(source, sealed[: length + TAG_BYTES])
        stream.open(sealed[: length + TAG_BYTES], plain[begin : begin + length])
    return plain


def _chunks(files: Mapping[str, Path | SeekableSource], header: Header, buffer: memoryview) -> Iterator[int]:
    """Fill the buffer with the files one after another; yield how much is in it when it is full, and at the end."""
    filled = 0
    for (_, size), source in zip(header.files, files.values(), strict=True):
        with _opened(source) as stream:
            while size:
                taken = min(size, len(buffer) - filled)
                fill(stream, buffer[filled : filled + taken], InvalidRequest("a file became shorter while sealed"))
                size, filled = size - taken, filled + taken
                if filled == len(buffer):
                    yield filled
                    filled = 0
            expect_end(stream, InvalidRequest("a file became longer while it was sealed"))
    if filled:
        yield filled


def _opened(source: Path | SeekableSource) -> AbstractContextManager[Source]:
    if isinstance(source, Path):
        return source.open("rb", buffering=0)
    source.seek(0)
    return nullcontext(source)


def _size(source: Path | SeekableSource) -> int:
    return source.stat().st_size if isinstance(source, Path) else source.seek(0, 2)


def _chunk_length(header: Header, index: int) -> int:
    return min(header.chunk_bytes, header.length_bytes - index * header.chunk_bytes)


def _cut(plain: memoryview, header: Header) -> dict[str, memoryview]:
    files, begin = {}, 0
    for name, size in header.files:
        files[name] = plain[begin : begin + size]
        begin += size
    return files
