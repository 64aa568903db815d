"""The committed vectors: made again byte for byte, opened by the code, and opened by hand from what is documented."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from cloister.api.v1.seal_pb2 import OpenedResponse, Receipt, RequestHeader, SealedRequest, SealedResponse
from cloister.seal import hpke, receipt
from cloister.seal.keys import Secret
from cloister.seal.model_file import digest_of, open_model
from cloister.seal.session import WorkerSessions
from vectors import make_seal_v1

_VECTORS: Any = json.loads(make_seal_v1.PATH.read_text())
_SESSION, _MODEL, _RECEIPT = _VECTORS["session"], _VECTORS["model_file"], _VECTORS["receipt"]
_PADDED = _VECTORS["padded_session"]


def test_the_vectors_are_made_again() -> None:
    assert make_seal_v1.vectors() == _VECTORS


@pytest.mark.parametrize("session", [_SESSION, _PADDED], ids=["version 1", "version 2"])
def test_the_worker_opens_and_answers(session: Any) -> None:
    pair = hpke.KeyPair.from_seed(session["suite"], bytes.fromhex(session["worker_seed"]))
    worker = WorkerSessions(pair, session["cluster"], session["instance"])
    digest, now = bytes.fromhex(session["model_digest"]), datetime.fromisoformat(session["now"])
    for exchange in session["exchanges"]:
        opened = worker.open(bytes.fromhex(exchange["sealed_request"]), now=now, digest_of=lambda *_: digest)
        assert opened.request.hex() == exchange["request"]
        answer = OpenedResponse(response=bytes.fromhex(exchange["answer"]))
        assert opened.respond(answer).hex() == exchange["sealed_answer"]


def _expand(secret: bytes, info: bytes) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(secret)


def _stripped(padded: bytes) -> bytes:
    assert len(padded) == 512
    return padded.rstrip(b"\0").removesuffix(b"\x80")


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("session", "strip"), [(_SESSION, bytes), (_PADDED, _stripped)], ids=["version 1", "version 2"]
)
def test_a_session_opens_by_hand(session: Any, strip: Callable[[bytes], bytes], number: int) -> None:
    exchange, secret = session["exchanges"][number], bytes.fromhex(session["session_secret"])
    raw = bytes.fromhex(exchange["sealed_request"])
    message = SealedRequest.FromString(raw)
    (recipient,), header = message.recipients, message.header
    instance, session_id = session["instance"].encode(), recipient.session_id
    wrapping = AESGCMSIV(_expand(secret, b"cloister wrap v1" + session_id))
    aad = hashlib.sha256(header).digest() + instance + session_id
    keys = wrapping.decrypt(recipient.sequence.to_bytes(12, "big"), recipient.wrapped_keys, aad)
    before = raw[: -len(message.ciphertext)]
    assert strip(AESGCM(keys[:32]).decrypt(bytes(12), message.ciphertext, before)).hex() == exchange["request"]
    assert RequestHeader.FromString(header).model_name == "resnet"
    answer = bytes.fromhex(exchange["sealed_answer"])
    ciphertext = SealedResponse.FromString(answer).ciphertext
    transcript = hashlib.sha256(header + message.ciphertext[-16:]).digest()
    response_key = _expand(keys[32:], b"cloister response v1" + instance + session_id)
    opened = AESGCM(response_key).decrypt(bytes(12), ciphertext, transcript + answer[: -len(ciphertext)])
    assert OpenedResponse.FromString(strip(opened)).response.hex() == exchange["answer"]


def test_the_key_id_is_made_by_hand() -> None:
    pair = hpke.KeyPair.from_seed("xwing", bytes.fromhex(_PADDED["worker_seed"]))
    named = b"".join(b"s" + len(text).to_bytes(4, "big") + text for text in (b"cloister hpke key v1", b"xwing"))
    key_id = hashlib.sha256(named + b"b" + (1216).to_bytes(4, "big") + pair.public).digest()[:8]
    first, second = (
        SealedRequest.FromString(bytes.fromhex(exchange["sealed_request"])).recipients[0]
        for exchange in _PADDED["exchanges"]
    )
    assert (first.key_id, second.key_id) == (key_id, b"")
    assert key_id.hex() == _PADDED["key_id"]


def test_the_opening_opens_by_hand() -> None:
    pair = hpke.KeyPair.from_seed("xwing", bytes.fromhex(_SESSION["worker_seed"]))
    recipient = SealedRequest.FromString(bytes.fromhex(_SESSION["exchanges"][0]["sealed_request"])).recipients[0]
    fields = [b"cloister session v1", _SESSION["cluster"].encode(), _SESSION["instance"].encode()]
    info = b"".join(b"s" + len(field).to_bytes(4, "big") + field for field in fields)
    info += b"b" + (16).to_bytes(4, "big") + recipient.session_id
    assert pair.open(recipient.opening, info).hex() == _SESSION["session_secret"]


def test_the_model_opens() -> None:
    raw, digest = bytes.fromhex(_MODEL["sealed"]), bytes.fromhex(_MODEL["digest"])
    key = Secret(bytes.fromhex(_MODEL["key"]))
    model = open_model(io.BytesIO(raw), key, name=_MODEL["name"], version=_MODEL["version"], digest=digest)
    assert {name: view.hex() for name, view in model.files.items()} == _MODEL["files"]
    assert digest_of(io.BytesIO(raw)) == digest


def test_the_model_opens_by_hand() -> None:
    raw = bytes.fromhex(_MODEL["sealed"])
    end = 12 + int.from_bytes(raw[8:12], "big")
    header = json.loads(raw[12:end])
    info = b"s\x00\x00\x00\x16cloister model file v1b\x00\x00\x00\x10" + bytes.fromhex(header["file_id"])
    info += b"s\x00\x00\x00\x06resneti\x00\x00\x00\x08" + (1).to_bytes(8, "big")
    salt = bytes.fromhex(header["salt"])
    derived = HKDF(algorithm=SHA256(), length=39, salt=salt, info=info).derive(bytes.fromhex(_MODEL["key"]))
    aad, step, plain, tags = hashlib.sha256(raw[:end]).digest(), header["chunk_bytes"] + 16, b"", b""
    chunks = [raw[begin : begin + step] for begin in range(end, len(raw), step)]
    for number, chunk in enumerate(chunks):
        nonce = derived[32:] + number.to_bytes(4, "big") + bytes([number == len(chunks) - 1])
        plain += AESGCM(derived[:32]).decrypt(nonce, chunk, aad)
        tags += chunk[-16:]
    assert plain.hex() == "".join(_MODEL["files"].values())
    assert hashlib.sha256(b"cloister model digest v1" + aad + tags).hexdigest() == _MODEL["digest"]


def test_the_receipts_verify() -> None:
    public = bytes.fromhex(_RECEIPT["public_key"])
    for raw, body in zip(_RECEIPT["receipts"], _RECEIPT["bodies"], strict=True):
        verified = receipt.verify(Receipt.FromString(bytes.fromhex(raw)), public)
        assert verified.SerializeToString(deterministic=True).hex() == body
        receipt.verify_content(
            verified, request=bytes.fromhex(_RECEIPT["request"]), response=bytes.fromhex(_RECEIPT["response"])
        )


def test_a_receipt_verifies_by_hand() -> None:
    """The second of three bodies: leaf 2 of 6, its random neighbour at 3, then (0, 1), then (4, 5)."""
    second = Receipt.FromString(bytes.fromhex(_RECEIPT["receipts"][1]))
    assert (second.leaf_index, second.tree_size, len(second.path)) == (2, 6, 3)

    def sha256(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    pair = sha256(b"\x01", sha256(b"\x00", second.body), second.path[0])
    head = sha256(b"\x01", sha256(b"\x01", second.path[1], pair), second.path[2])
    signed = b"s\x00\x00\x00\x14cloister receipts v1i\x00\x00\x00\x08" + (6).to_bytes(8, "big")
    signed += b"b\x00\x00\x00\x20" + head
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(_RECEIPT["public_key"])).verify(second.signature, signed)
