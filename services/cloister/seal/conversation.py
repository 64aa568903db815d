"""Conversations: many sealed requests to one worker over one stream, for the price of their symmetric ciphers.

A conversation is opened by an ordinary sealed request (`session`) to one worker. Its header has version 2 and says
`conversation`; its content is empty. The answer, sealed like any other, holds the terms. Both ends then derive, from
the response seed that the request brought,

    keys = HKDF-Expand(response seed, "cloister conversation v1" ‖ instance ‖ session id ‖ transcript, 96)

three keys of 32 bytes: of requests, of answers, and of receipt ids. The transcript is that of the opening
(`session_keys.transcript`), so the keys belong to one header: one model digest, one deadline. The conversation's id is
the header's request id.

What follows are chunks, one in each envelope (`chunk_envelope`):

    chunk   = AES-256-GCM ciphertext ‖ tag (16) ‖ conversation id (16) ‖ place (8)
    nonce   = four zero bytes ‖ place
    place   = big-endian; the highest bit is set in the last chunk of a direction, the rest counts requests from 0

No associated data: the id is in the keys, the place in the nonce. This is the STREAM construction (Hoang, Reyhanitabar,
Rogaway, Vizár, CRYPTO 2015), with the final flag in the nonce, in each direction. If the header says that request and
answer are padded, so is the content of every chunk, before it is sealed (`padding`).

- A request chunk holds a serialised ModelInferRequest. The worker opens places in rising order only. Gaps are allowed,
  since a gateway may refuse a request for want of room; what comes again, or late, ends the conversation.
- An answer chunk holds an OpenedResponse, and has the place of the request that it answers. With a response it has the
  time and the number of its receipt, in the order in which answers leave the worker.
- The client's last chunk holds a ConversationClose; its place follows that of the last request. The worker's answer to
  it, at the same place, holds a ConversationEnd. Before it has come, a conversation is not complete.

Each answer with a response has a receipt body as any other answer has (`receipt`), with the request id

    SHA-256(key of receipt ids ‖ place), its first 16 bytes

The bodies are the leaves of one RFC 6962 tree, in the order of their numbers, and the end has one signature over its
head. From that and what it kept, the client makes the receipt of each answer, which verifies like any other.

Why no nonce repeats: the keys are fresh with each opening, which a worker opens once; a client counts requests, and a
worker answers a place at most once, since it opens it at most once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.api.v1.seal_pb2 import ConversationTerms, ReceiptBody
from cloister.errors import SealBroken
from cloister.seal import padding, receipt
from cloister.seal.framing import varint
from cloister.seal.keys import KEY_BYTES, Secret, expand
from cloister.seal.session_keys import REQUEST_ID_BYTES

ID_BYTES: Final = REQUEST_ID_BYTES
PLACE_BYTES: Final = 8
TRAILER_BYTES: Final = ID_BYTES + PLACE_BYTES
MIN_CHUNK_BYTES: Final = 16 + TRAILER_BYTES
LAST: Final = 1 << 63
MOST_REQUESTS: Final = 4096
"""In one conversation; a client that has more to ask opens another."""


@dataclass(frozen=True, slots=True)
class ConversationKeys:
    """What both ends derive from an opening.

    Attributes:
        padded: Whether the header asks to hide lengths, of all that is sealed.
    """

    request: AESGCM
    answer: AESGCM
    receipt_ids: Secret
    padded: bool

    @classmethod
    def derive(
        cls, seed: bytes, instance: str, session_id: bytes, transcript: bytes, *, padded: bool
    ) -> ConversationKeys:
        """Derive them from the opening's response seed."""
        info = b"cloister conversation v1" + instance.encode() + session_id + transcript
        raw = expand(Secret(seed), info, 3 * KEY_BYTES).reveal()
        both, ids = raw[: 2 * KEY_BYTES], raw[2 * KEY_BYTES :]
        return cls(AESGCM(both[:KEY_BYTES]), AESGCM(both[KEY_BYTES:]), Secret(ids), padded)

    def seal(self, cipher: AESGCM, content: bytes, at: bytes) -> bytes:
        """Seal what goes to a place: with `request` for the worker, with `answer` for the client."""
        return cipher.encrypt(nonce(at), padding.pad(content) if self.padded else content, None)

    def open(self, cipher: AESGCM, ciphertext: memoryview, at: bytes) -> bytes:
        """Open it.

        Raises:
            SealBroken: It was not sealed for this place, or is not padded as all of its conversation is.
        """
        try:
            content = cipher.decrypt(nonce(at), ciphertext, None)
        except InvalidTag:
            raise SealBroken from None
        return padding.strip(content) if self.padded else content


class Subject(NamedTuple):
    """What a conversation is about, fixed by the header of its opening."""

    conversation_id: bytes
    instance: str
    model_name: str
    model_version: str
    model_digest: bytes


def place(number: int, *, last: bool = False) -> bytes:
    """Return the place of a chunk, as it travels."""
    return (number | LAST if last else number).to_bytes(PLACE_BYTES, "big")


def nonce(at: bytes) -> bytes:
    """Return the nonce of a place."""
    return b"\0\0\0\0" + at


class ReceiptBodies:
    """The bodies of one conversation's receipts, as deterministic protobuf."""

    def __init__(self, keys: ConversationKeys, subject: Subject, terms: ConversationTerms) -> None:
        self._ids = hashlib.sha256(keys.receipt_ids.reveal())
        # Fields 5 to 10; what differs from answer to answer stands before and after them.
        self._constant = ReceiptBody(
            model_name=subject.model_name,
            model_version=subject.model_version,
            model_digest=subject.model_digest,
            policy_digest=terms.policy_digest,
            ear_id=terms.ear_id,
            instance=subject.instance,
        ).SerializeToString(deterministic=True)

    def body(self, at: bytes, request: bytes, response: bytes, issued_at_ms: int) -> bytes:
        """The serialised ReceiptBody of one answer."""
        salt = self._ids.copy()
        salt.update(at)
        request_id = salt.digest()[:REQUEST_ID_BYTES]
        return b"".join(
            (
                b"\x08\x01\x12\x10",
                request_id,
                b"\x1a\x20",
                receipt.content_hash(request_id, request),
                b"\x22\x20",
                receipt.content_hash(request_id, response),
                self._constant,
                b"\x58",
                varint(issued_at_ms),
            )
        )
