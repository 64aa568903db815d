"""The committed conversation: made again byte for byte, and opened by hand from what is documented."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import ConversationClose, OpenedResponse, Receipt, ReceiptBody
from cloister.seal import receipt
from vectors import make_conversation_v1

_VECTORS: Any = json.loads(make_conversation_v1.PATH.read_text())


class _Conversation:
    """One of them, and its keys."""

    def __init__(self, name: str) -> None:
        self.told = _VECTORS[name]
        self.padded = name == "padded"
        session = self.bytes("session_id") + self.bytes("transcript")
        info = b"cloister conversation v1" + self.told["instance"].encode() + session
        raw = HKDFExpand(algorithm=SHA256(), length=96, info=info).derive(self.bytes("response_seed"))
        self.requests, self.answers, self.ids = AESGCM(raw[:32]), AESGCM(raw[32:64]), raw[64:]

    def bytes(self, name: str) -> bytes:
        return bytes.fromhex(self.told[name])

    def opened(self, cipher: AESGCM, chunk: bytes, place: bytes) -> bytes:
        assert chunk[-24:] == self.bytes("conversation_id") + place
        content = cipher.decrypt(bytes(4) + place, chunk[:-24], b"")
        if not self.padded:
            return content
        assert len(content) == 512
        content = content.rstrip(b"\0")
        assert content.endswith(b"\x80")
        return content[:-1]


@pytest.fixture(params=["unpadded", "padded"])
def conversation(request: pytest.FixtureRequest) -> _Conversation:
    return _Conversation(request.param)


def test_the_conversation_is_made_again() -> None:
    assert make_conversation_v1.vectors() == _VECTORS


def test_its_chunks_open_by_hand(conversation: _Conversation) -> None:
    for exchange in conversation.told["exchanges"]:
        place, request = bytes.fromhex(exchange["place"]), bytes.fromhex(exchange["request"])
        (chunk,) = ModelInferRequest.FromString(bytes.fromhex(exchange["envelope"])).raw_input_contents
        assert conversation.opened(conversation.requests, chunk, place) == request
        if "answer_envelope" in exchange:
            (chunk,) = ModelInferResponse.FromString(bytes.fromhex(exchange["answer_envelope"])).raw_output_contents
            opened = OpenedResponse.FromString(conversation.opened(conversation.answers, chunk, place))
            assert opened.response.hex() == exchange["response"]
            proof = Receipt.FromString(bytes.fromhex(conversation.told["receipts"][opened.leaf_index]))
            body = ReceiptBody.FromString(proof.body)
            assert body.request_id == hashlib.sha256(conversation.ids + place).digest()[:16]
            assert body.request_sha256 == hashlib.sha256(body.request_id + request).digest()
            assert body.issued_at_ms == opened.issued_at_ms


def test_its_end_holds_by_hand(conversation: _Conversation) -> None:
    close = conversation.told["close"]
    place = bytes.fromhex(close["place"])
    assert place.hex() == "8000000000000003"
    (chunk,) = ModelInferRequest.FromString(bytes.fromhex(close["envelope"])).raw_input_contents
    opened = conversation.opened(conversation.requests, chunk, place)
    assert ConversationClose.FromString(opened) == ConversationClose(sent=3, received=2)
    (chunk,) = ModelInferResponse.FromString(conversation.bytes("end_envelope")).raw_output_contents
    end = OpenedResponse.FromString(conversation.opened(conversation.answers, chunk, place)).end
    assert (end.answered, end.leaves) == (2, b"")
    proofs = [Receipt.FromString(bytes.fromhex(raw)) for raw in conversation.told["receipts"]]
    leaves = [hashlib.sha256(b"\0" + proof.body).digest() for proof in proofs]
    head = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
    label = b"s" + (20).to_bytes(4, "big") + b"cloister receipts v1"
    signed = label + b"i" + (8).to_bytes(4, "big") + (2).to_bytes(8, "big") + b"b" + (32).to_bytes(4, "big") + head
    Ed25519PublicKey.from_public_bytes(conversation.bytes("receipt_public_key")).verify(end.signature, signed)
    for proof in proofs:
        receipt.verify(proof, conversation.bytes("receipt_public_key"))
