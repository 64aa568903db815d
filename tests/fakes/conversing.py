"""Both halves of a conversation, and a wire between them that a test may play with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.seal_pb2 import ConversationTerms, OpenedResponse, ReceiptBundle
from cloister.seal.conversation import Subject
from cloister.seal.conversation_client import ClientConversation
from cloister.seal.conversation_worker import OpenedChunk, WorkerConversation, WorkerConversations
from fakes.sealed import DIGEST, NOW, FakeClient, FakeWorker

EAR_ID = "ear-1"
ENDS_AT_S = 100.0


@dataclass
class Conversing:
    """One conversation; the worker answers each request with what it was asked, turned round.

    Attributes:
        now_s: The worker's clock.
    """

    most_requests: int = 64
    padded: bool = False
    worker: FakeWorker = field(default_factory=lambda: FakeWorker(seal_version=2))
    held: WorkerConversations = field(default_factory=WorkerConversations)
    receipt_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        sealed, pending = FakeClient().sessions.seal(
            b"",
            model_name="resnet",
            model_version="1",
            model_digest=DIGEST,
            not_after=NOW + timedelta(seconds=ENDS_AT_S),
            recipients=[self.worker.key],
            conversation=True,
            padded=self.padded,
        )
        opened = self.worker.open(sealed)
        assert opened.conversation is not None
        self.opening = sealed
        self.subject = Subject(opened.request_id, self.worker.instance, "resnet", "1", DIGEST)
        self.terms = ConversationTerms(policy_digest=bytes(32), ear_id=EAR_ID, most_requests=self.most_requests)
        self.theirs = WorkerConversation(
            opened.conversation, self.subject, self.terms, session_id=opened.session_id, ends_at_s=ENDS_AT_S
        )
        self.held.add(self.theirs, self.now_s)
        keys = pending.conversation_keys(self.worker.instance)
        self.ours = ClientConversation(keys, self.subject, self.terms)

    @property
    def receipt_public(self) -> bytes:
        """What its receipts are verified with."""
        return self.receipt_key.public_key().public_bytes_raw()

    def opened(self, raw: bytes) -> OpenedChunk:
        """What the worker finds in an envelope."""
        chunk = self.held.open(raw, self.now_s)
        assert chunk is not None
        return chunk

    def answer(self, raw: bytes, issued_at_ms: int = 1) -> bytes:
        """Open a request, and answer it."""
        chunk = self.opened(raw)
        return self.theirs.answer(chunk, chunk.request[::-1], issued_at_ms)

    def hear(self, at: bytes, request: bytes, answer: bytes) -> OpenedResponse:
        """What the client finds in an answer."""
        return self.ours.open(at, request, answer)

    def ask(self, request: bytes) -> tuple[bytes, OpenedResponse]:
        """A whole exchange: the request's place, and its answer in clear."""
        at, raw = self.ours.seal(request)
        return at, self.hear(at, request, self.answer(raw))

    def ended(self, raw: bytes) -> bytes:
        """The worker's answer to the last chunk."""
        chunk = self.opened(raw)
        assert chunk.is_last
        return self.theirs.seal(chunk, self.held.end(chunk, self.receipt_key))

    def end(self) -> None:
        """End it."""
        at, raw = self.ours.close()
        self.finish(at, self.ended(raw))

    def finish(self, at: bytes, answer: bytes) -> None:
        """What the client makes of an end."""
        self.ours.finish(at, answer, self.receipt_public)

    def bundle(self, at: bytes, request: bytes, opened: OpenedResponse) -> ReceiptBundle:
        """What the client keeps of an answer."""
        proof = self.ours.receipt(at, request, opened)
        return ReceiptBundle(receipt=proof, request=request, response=opened.response)
