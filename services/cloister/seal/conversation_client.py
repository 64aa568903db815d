"""The client's half of a conversation (see `conversation`)."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import ConversationClose, ConversationEnd, ConversationTerms, OpenedResponse, Receipt
from cloister.errors import NotReady, SealBroken
from cloister.seal import receipt
from cloister.seal.chunk_envelope import ChunkEnvelope
from cloister.seal.conversation import (
    MOST_REQUESTS,
    TRAILER_BYTES,
    ConversationKeys,
    ReceiptBodies,
    Subject,
    place,
)
from cloister.tlog import merkle


class ClientConversation:
    """Seals requests, opens answers, and makes receipts once the end has come.

    Args:
        keys: From the opening.
        subject: Of the opening.
        terms: What the worker answered to it.

    Attributes:
        most_requests: How many it may hold.
        sent: Requests so far.
        broken: Something that came was not what it had to be; nothing is believed any more.
        complete: The end has come, and holds.
    """

    def __init__(self, keys: ConversationKeys, subject: Subject, terms: ConversationTerms) -> None:
        self.most_requests = min(terms.most_requests, MOST_REQUESTS)
        self.sent = 0
        self.broken = self.complete = False
        self._closed = False
        self._keys = keys
        self._id = subject.conversation_id
        self._requests, self._answers = ChunkEnvelope.of_requests(subject), ChunkEnvelope.of_answers(subject)
        self._bodies = ReceiptBodies(keys, subject, terms)
        self._leaves: dict[int, bytes] = {}
        self._levels: list[list[bytes]] = []
        self._signature = b""

    def seal(self, request: bytes) -> tuple[bytes, bytes]:
        """Seal a serialised ModelInferRequest.

        Returns:
            Its place, and the serialised envelope.
        """
        if self.sent >= self.most_requests or self.broken or self._closed:
            raise RuntimeError("this conversation takes no more requests")
        at = place(self.sent)
        self.sent += 1
        return at, self._sealed(request, at)

    def open(self, at: bytes, request: bytes, answer: bytes) -> OpenedResponse:
        """Open the answer to a request of ours, and note its receipt.

        Args:
            at: The request's place.
            request: As it was sealed.
            answer: The envelope that came for it, serialised.

        Raises:
            SealBroken: It is not the worker's answer to this request; the conversation is broken.
        """
        opened = self._opened(at, answer)
        outcome = opened.WhichOneof("outcome")
        if outcome == "response":
            index = opened.leaf_index
            if index in self._leaves or index >= self.most_requests:
                raise self._break()
            body = self._bodies.body(at, request, opened.response, opened.issued_at_ms)
            self._leaves[index] = merkle.leaf_hash(body)
        elif outcome != "failure":
            raise self._break()
        return opened

    def close(self) -> tuple[bytes, bytes]:
        """The last chunk: its place, and the serialised envelope. Made once: no place is sealed for twice."""
        if self._closed:
            raise RuntimeError("this conversation is closed")
        self._closed = True
        at = place(self.sent, last=True)
        close = ConversationClose(sent=self.sent, received=len(self._leaves))
        return at, self._sealed(close.SerializeToString(), at)

    def finish(self, at: bytes, answer: bytes, receipt_key: bytes) -> None:
        """Open the end, and check its signature over the answers that came.

        Args:
            at: The place of our last chunk.
            answer: The envelope that came for it, serialised.
            receipt_key: The worker's, attested.

        Raises:
            SealBroken: It is not the worker's end of this conversation, or not of these answers.
        """
        opened = self._opened(at, answer)
        if opened.WhichOneof("outcome") != "end":
            raise self._break()
        leaves = self._all_leaves(opened.end)
        if leaves:
            self._levels = merkle.levels(leaves)
            self._signature = opened.end.signature
            try:
                receipt.verify_head(receipt_key, self._signature, len(leaves), self._levels[-1][0])
            except InvalidSignature:
                raise self._break() from None
        self.complete = True

    def receipt(self, at: bytes, request: bytes, opened: OpenedResponse) -> Receipt:
        """The receipt of an answer.

        Raises:
            NotReady: The end has not come (reason `receipt.pending`).
        """
        if not self.complete:
            raise NotReady(
                "the worker signs a stream's receipts when the conversation ends: leave the stream, or call conclude()",
                reason="receipt.pending",
            )
        return Receipt(
            body=self._bodies.body(at, request, opened.response, opened.issued_at_ms),
            tree_size=len(self._levels[0]),
            leaf_index=opened.leaf_index,
            path=merkle.path(self._levels, opened.leaf_index),
            signature=self._signature,
        )

    def _sealed(self, content: bytes, at: bytes) -> bytes:
        return self._requests.around(self._keys.seal(self._keys.request, content, at), self._id + at)

    def _opened(self, at: bytes, answer: bytes) -> OpenedResponse:
        if self.broken:
            raise SealBroken
        try:
            chunk = self._answers.chunk_in(answer)
            if chunk[-TRAILER_BYTES:] != self._id + at:
                raise SealBroken
            return OpenedResponse.FromString(self._keys.open(self._keys.answer, chunk[:-TRAILER_BYTES], at))
        except (SealBroken, DecodeError):
            raise self._break() from None

    def _all_leaves(self, end: ConversationEnd) -> list[bytes]:
        """The leaves of all answers: ours, or those that came with the end where some answers did not."""
        size, ours = merkle.HASH_BYTES, self._leaves
        if end.leaves:
            leaves = [end.leaves[start : start + size] for start in range(0, len(end.leaves), size)]
        else:
            leaves = [ours[index] for index in range(len(ours)) if index in ours]
        counted = len(leaves) == end.answered <= self.sent and len(ours) <= len(leaves)
        if not counted or any(index >= len(leaves) or leaves[index] != leaf for index, leaf in ours.items()):
            raise self._break()
        return leaves

    def _break(self) -> SealBroken:
        self.broken = True
        return SealBroken()
