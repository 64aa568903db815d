"""Envelopes of chunks: ordinary OIP messages whose bytes are known but for a length.

A chunk is the only tensor of its envelope, named `cloister.chunk`; all else is as in `envelope`. Everything before the
chunk is the same for all chunks of one length, so it is made once, and held against what comes byte by byte. An
envelope that says the same in other bytes, as a proxy may write it anew, is read by a parser and is as good.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.errors import SealBroken
from cloister.seal import envelope
from cloister.seal.conversation import MIN_CHUNK_BYTES, Subject
from cloister.seal.framing import varint

TENSOR: Final = "cloister.chunk"
_KEPT_HEADS: Final = 256
_ROUNDS: Final = 4
_Message = ModelInferRequest | ModelInferResponse


class ChunkEnvelope:
    """The envelope around each chunk of one conversation, in one direction.

    Args:
        message: All of it but the tensor.
    """

    def __init__(self, message: _Message) -> None:
        self._kind = type(message)
        self._fields = message.SerializeToString(deterministic=True)
        self._heads: dict[int, bytes] = {}
        self._sizes: dict[int, int] = {}

    @classmethod
    def of_requests(cls, subject: Subject) -> ChunkEnvelope:
        """Around requests."""
        message = ModelInferRequest(model_name=subject.model_name, model_version=subject.model_version)
        message.parameters[envelope.SEAL_PARAMETER].string_param = envelope.SEAL_VERSION
        message.parameters[envelope.WORKERS_PARAMETER].string_param = subject.instance
        return cls(message)

    @classmethod
    def of_answers(cls, subject: Subject) -> ChunkEnvelope:
        """Around answers."""
        message = ModelInferResponse(model_name=subject.model_name, model_version=subject.model_version)
        message.parameters[envelope.SEAL_PARAMETER].string_param = envelope.SEAL_VERSION
        return cls(message)

    def around(self, ciphertext: bytes, trailer: bytes) -> bytes:
        """The serialised envelope of a chunk, whose two parts are copied once."""
        return b"".join((self._head(len(ciphertext) + len(trailer)), ciphertext, trailer))

    def holds(self, raw: bytes) -> memoryview | None:
        """The chunk in a serialised envelope; None where these are not exactly the bytes of one."""
        size = self._sizes.get(len(raw))
        if size is None:
            size = self._size_in(len(raw))
        if size < MIN_CHUNK_BYTES or not raw.startswith(self._head(size)):
            return None
        return memoryview(raw)[-size:]

    def chunk_in(self, raw: bytes) -> memoryview:
        """The chunk in a serialised envelope, whoever wrote it.

        Raises:
            SealBroken: It says something else than ours do, or is none.
        """
        chunk = self.holds(raw)
        if chunk is not None:
            return chunk
        try:
            return self.check(self._kind.FromString(raw))
        except DecodeError:
            raise SealBroken from None

    def check(self, message: _Message) -> memoryview:
        """The chunk in a parsed envelope.

        Raises:
            SealBroken: It says something else than ours do.
        """
        chunk = content(message)
        if chunk is None or message != self._kind.FromString(self.around(chunk, b"")):
            raise SealBroken
        return memoryview(chunk)

    def _head(self, size: int) -> bytes:
        head = self._heads.get(size)
        if head is None:
            head = self._made(size)
            if len(self._heads) < _KEPT_HEADS:
                self._heads[size] = head
        return head

    def _made(self, size: int) -> bytes:
        message = self._kind()
        if isinstance(message, ModelInferRequest):
            message.inputs.add(name=TENSOR, datatype=envelope.DATATYPE, shape=[size])
            field = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
        else:
            message.outputs.add(name=TENSOR, datatype=envelope.DATATYPE, shape=[size])
            field = ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
        return self._fields + message.SerializeToString() + bytes([field << 3 | 2]) + varint(size)

    def _size_in(self, total: int) -> int:
        """The size of the chunk in an envelope of `total` bytes; 0 if there is none such."""
        size = total
        for _ in range(_ROUNDS):  # the head of a shorter chunk is shorter by a byte or two
            size = max(0, total - len(self._head(size)))
        if size + len(self._head(size)) != total:
            return 0
        if len(self._sizes) < _KEPT_HEADS:
            self._sizes[total] = size
        return size


def content(message: _Message) -> bytes | None:
    """The chunk in an envelope, not held against anything; None where it holds something else."""
    if isinstance(message, ModelInferRequest):
        names, raw = [tensor.name for tensor in message.inputs], message.raw_input_contents
    else:
        names, raw = [tensor.name for tensor in message.outputs], message.raw_output_contents
    if names != [TENSOR] or len(raw) != 1 or len(raw[0]) < MIN_CHUNK_BYTES:
        return None
    chunk: bytes = raw[0]
    return chunk
