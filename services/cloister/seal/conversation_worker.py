"""The worker's half of conversations (see `conversation`), in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1.seal_pb2 import ConversationClose, ConversationEnd, ConversationTerms, OpenedResponse
from cloister.errors import NotReady, Overloaded, SealBroken
from cloister.seal import chunk_envelope, receipt
from cloister.seal.chunk_envelope import ChunkEnvelope
from cloister.seal.conversation import (
    LAST,
    PLACE_BYTES,
    TRAILER_BYTES,
    ConversationKeys,
    ReceiptBodies,
    Subject,
)
from cloister.tlog import merkle

IDLE_S: Final = 60.0
"""A conversation in which nothing came for so long makes room for another, if there is none."""


class WorkerConversation:
    """One of them.

    Args:
        keys: From the opening, as is `subject`.
        subject: See `keys`.
        terms: As they are answered to it.
        session_id: Of the session that it was opened in.
        ends_at_s: When nothing is opened in it any more, on the clock of who asks.

    Attributes:
        used_at_s: When something last came in it.
        open: Whether it still is.
    """

    __slots__ = (
        "_answers",
        "_bodies",
        "_keys",
        "_leaves",
        "_next",
        "_requests",
        "_tree",
        "ends_at_s",
        "open",
        "session_id",
        "subject",
        "terms",
        "used_at_s",
    )

    def __init__(
        self,
        keys: ConversationKeys,
        subject: Subject,
        terms: ConversationTerms,
        *,
        session_id: bytes,
        ends_at_s: float,
    ) -> None:
        self.subject = subject
        self.terms = terms
        self.session_id = session_id
        self.ends_at_s = ends_at_s
        self.used_at_s = 0.0
        self.open = True
        self._keys = keys
        self._requests, self._answers = ChunkEnvelope.of_requests(subject), ChunkEnvelope.of_answers(subject)
        self._bodies = ReceiptBodies(keys, subject, terms)
        self._next = 0
        self._tree = merkle.Frontier()
        self._leaves = bytearray()  # for answers that the gateway may lose on the way

    def holds(self, raw: bytes) -> memoryview | None:
        """See `ChunkEnvelope.holds`."""
        return self._requests.holds(raw)

    def check(self, message: ModelInferRequest) -> memoryview:
        """See `ChunkEnvelope.check`."""
        return self._requests.check(message)

    def opened(self, chunk: memoryview) -> OpenedChunk:
        """Open a chunk of this conversation.

        Raises:
            SealBroken: Altered, or not a later one than before (reason `request.replayed`); let it end.
        """
        at = bytes(chunk[-PLACE_BYTES:])
        number = int.from_bytes(at, "big")
        content = self._keys.open(self._keys.request, chunk[:-TRAILER_BYTES], at)
        is_last, number = number >= LAST, number & ~LAST
        if not self._next <= number < self.terms.most_requests + is_last:
            raise SealBroken(reason="request.replayed")
        self._next = number + 1
        return OpenedChunk(self, at, content)

    def end(self, chunk: OpenedChunk, sign_key: Ed25519PrivateKey) -> OpenedResponse:
        """The answer to the client's last chunk.

        Raises:
            SealBroken: It is not one.
        """
        try:
            close = ConversationClose.FromString(chunk.request)
        except DecodeError:
            raise SealBroken from None
        if close.sent + 1 != self._next or close.received > self._tree.size:
            raise SealBroken
        end = ConversationEnd(answered=self._tree.size)
        if self._tree.size:
            end.signature = receipt.sign_head(sign_key, self._tree.size, self._tree.root())
        if close.received < self._tree.size:
            end.leaves = bytes(self._leaves)
        return OpenedResponse(end=end)

    def answer(self, chunk: OpenedChunk, response: bytes, issued_at_ms: int) -> bytes:
        """Seal a serialised ModelInferResponse, and note its receipt; returns the serialised envelope."""
        message = OpenedResponse(response=response, issued_at_ms=issued_at_ms, leaf_index=self._tree.size)
        leaf = merkle.leaf_hash(self._bodies.body(chunk.at, chunk.request, response, issued_at_ms))
        self._tree.add(leaf)
        self._leaves += leaf
        return self.seal(chunk, message)

    def seal(self, chunk: OpenedChunk, message: OpenedResponse) -> bytes:
        """Seal the one answer to a chunk; returns the serialised envelope."""
        if chunk.answered:
            raise RuntimeError("a request is answered once")
        chunk.answered = True
        sealed = self._keys.seal(self._keys.answer, message.SerializeToString(), chunk.at)
        return self._answers.around(sealed, self.subject.conversation_id + chunk.at)


@dataclass(slots=True)
class OpenedChunk:
    """A chunk in clear.

    Attributes:
        at: Its place.
        request: A serialised ModelInferRequest; a ConversationClose in the last.
        answered: Whether it was.
    """

    conversation: WorkerConversation = field(repr=False)
    at: bytes
    request: bytes = field(repr=False)
    answered: bool = False

    @property
    def is_last(self) -> bool:
        """Whether the client says that there are no more."""
        return self.at[0] >= LAST >> 56

    @property
    def model_name(self) -> str:
        """As in the opening's header, as is `model_version`."""
        return self.conversation.subject.model_name

    @property
    def model_version(self) -> str:
        """See `model_name`."""
        return self.conversation.subject.model_version

    @property
    def session_id(self) -> bytes:
        """Of the session that its conversation was opened in."""
        return self.conversation.session_id


class WorkerConversations:
    """All conversations of one worker.

    Args:
        capacity: How many are held; each keeps a hash of 32 bytes for every answer (`conversation.MOST_REQUESTS`).
    """

    def __init__(self, capacity: int = 512) -> None:
        self._capacity = capacity
        self._held: OrderedDict[bytes, WorkerConversation] = OrderedDict()  # the one unused for longest first

    def __len__(self) -> int:
        return len(self._held)

    def add(self, conversation: WorkerConversation, now_s: float) -> None:
        """Hold one that was opened.

        Raises:
            Overloaded: There is no room (reason `conversations.full`).
            SealBroken: There is one of this id.
        """
        self.forget_ended(now_s)
        if conversation.subject.conversation_id in self._held:
            raise SealBroken
        if len(self._held) >= self._capacity:
            oldest = next(iter(self._held.values()))
            if now_s - oldest.used_at_s <= IDLE_S:
                raise Overloaded("this worker holds no more conversations now", reason="conversations.full")
            self._drop(oldest)
        conversation.used_at_s = now_s
        self._held[conversation.subject.conversation_id] = conversation

    def forget_ended(self, now_s: float) -> None:
        """Drop those that are over, with their keys: what was recorded of them opens no more, as with an epoch."""
        for conversation in [each for each in self._held.values() if each.ends_at_s <= now_s]:
            self._drop(conversation)

    def open(self, raw: bytes, now_s: float) -> OpenedChunk | None:
        """Open a chunk whose serialised envelope is exactly as ours are; None for any other message.

        Raises:
            NotReady, SealBroken: As `open_parsed`.
        """
        conversation = self._held.get(raw[-TRAILER_BYTES:-PLACE_BYTES])
        if conversation is None:
            return None
        chunk = conversation.holds(raw)
        return None if chunk is None else self._open(conversation, chunk, now_s)

    def open_parsed(self, envelope: ModelInferRequest, now_s: float) -> OpenedChunk | None:
        """Open the chunk in an envelope; None where it holds something else.

        Raises:
            NotReady: Its conversation is not open here (reason `conversation.unknown`).
            SealBroken: As `WorkerConversation.opened`, or the envelope is not as it should be.
        """
        chunk = chunk_envelope.content(envelope)
        if chunk is None:
            return None
        conversation = self._held.get(chunk[-TRAILER_BYTES:-PLACE_BYTES])
        if conversation is None:
            raise conversation_unknown()
        return self._open(conversation, conversation.check(envelope), now_s)

    def end(self, chunk: OpenedChunk, sign_key: Ed25519PrivateKey) -> OpenedResponse:
        """End a conversation; the answer to its last chunk, as `WorkerConversation.end`."""
        self._drop(chunk.conversation)
        return chunk.conversation.end(chunk, sign_key)

    def _open(self, conversation: WorkerConversation, chunk: memoryview, now_s: float) -> OpenedChunk:
        if not conversation.open or conversation.ends_at_s <= now_s:
            self._drop(conversation)
            raise conversation_unknown()
        conversation.used_at_s = now_s
        self._held.move_to_end(conversation.subject.conversation_id)
        try:
            return conversation.opened(chunk)
        except SealBroken:
            self._drop(conversation)
            raise

    def _drop(self, conversation: WorkerConversation) -> None:
        conversation.open = False
        self._held.pop(conversation.subject.conversation_id, None)


def conversation_unknown() -> NotReady:
    """The error of whoever asks in a conversation that is not open here."""
    return NotReady("this worker does not know the conversation; open another", reason="conversation.unknown")
