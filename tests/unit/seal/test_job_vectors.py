"""The committed jobs: made again byte for byte, and opened by hand from what is documented."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import JobHeader, KeptJob, OpenedJobResult, SealedJob, SealedJobResult
from cloister.seal import hpke, receipt
from cloister.seal.job import JobTicket
from vectors import make_job_v1

_VECTORS: Any = json.loads(make_job_v1.PATH.read_text())


def raw(name: str) -> bytes:
    return bytes.fromhex(_VECTORS[name])


def expand(secret: bytes, info: bytes) -> bytes:
    return hmac.digest(secret, info + b"\x01", "sha256")


def stripped(padded: bytes) -> bytes:
    assert len(padded) == 512
    content = padded.rstrip(b"\0")
    assert content.endswith(b"\x80")
    return content[:-1]


@pytest.fixture(params=range(4))
def told(request: pytest.FixtureRequest) -> Any:
    return _VECTORS["jobs"][request.param]


def test_they_are_made_again() -> None:
    assert make_job_v1.vectors() == _VECTORS


def test_the_opening_opens_by_hand() -> None:
    parts = ("cloister job session v1", _VECTORS["cluster"], _VECTORS["model_name"])
    info = b"".join(b"s" + len(part).to_bytes(4, "big") + part.encode() for part in parts)
    info += b"i" + (8).to_bytes(4, "big") + _VECTORS["epoch"].to_bytes(8, "big")
    for part in (raw("key_id"), raw("session_id")):
        info += b"b" + len(part).to_bytes(4, "big") + part
    assert info == raw("opening_info")
    pair = hpke.KeyPair.from_seed(_VECTORS["suite"], raw("epoch_seed"))
    assert pair.open(raw("opening"), info) == raw("session_secret")
    assert expand(raw("session_secret"), b"cloister job wrap v1" + raw("session_id")) == raw("wrapping_key")


def test_a_job_opens_by_hand(told: Any) -> None:
    sealed = bytes.fromhex(told["sealed_job"])
    job = SealedJob.FromString(sealed)
    header = JobHeader.FromString(job.header)
    assert (header.epoch, header.key_id) == (_VECTORS["epoch"], raw("key_id"))
    assert header.not_after_ms == int(datetime.fromisoformat(_VECTORS["now"]).timestamp() + 86_400) * 1000
    aad = hashlib.sha256(job.header).digest() + raw("session_id")
    both = AESGCMSIV(raw("wrapping_key")).decrypt(header.job_id[:12], job.wrapped_keys, aad)
    assert both[32:].hex() == told["answer_seed"]
    head = sealed[: -len(job.ciphertext)]
    content = AESGCM(both[:32]).decrypt(bytes(12), job.ciphertext, head)
    assert (stripped(content) if told["padded"] else content).hex() == told["request"]
    assert hashlib.sha256(job.header + job.ciphertext[-16:]).hexdigest() == told["transcript"]
    (carried,) = ModelInferRequest.FromString(bytes.fromhex(told["envelope"])).raw_input_contents
    assert carried == sealed


def test_its_answers_open_by_hand_and_have_different_keys(told: Any) -> None:
    salts = set()
    for answer in told["answers"]:
        sealed = bytes.fromhex(answer["sealed_result"])
        result = SealedJobResult.FromString(sealed)
        key = expand(bytes.fromhex(told["answer_seed"]), b"cloister job answer v1" + result.salt)
        head = sealed[: -len(result.ciphertext)]
        opened = AESGCM(key).decrypt(bytes(12), result.ciphertext, bytes.fromhex(told["transcript"]) + head)
        assert (stripped(opened) if told["padded"] and len(opened) == 512 else opened).hex() == answer["opened"]
        (carried,) = ModelInferResponse.FromString(bytes.fromhex(answer["envelope"])).raw_output_contents
        assert carried == sealed
        salts.add(result.salt)
    assert len(salts) == len(told["answers"])


def test_its_receipt_is_of_the_job(told: Any) -> None:
    opened = OpenedJobResult.FromString(bytes.fromhex(told["answers"][0]["opened"]))
    if not opened.HasField("receipt"):
        assert opened.failure.reason == "request.invalid"
        return
    key = Ed25519PrivateKey.from_private_bytes(raw("receipt_seed")).public_key().public_bytes_raw()
    body = receipt.verify(opened.receipt, key)
    receipt.verify_content(body, request=bytes.fromhex(told["request"]), response=opened.response)
    assert body.request_id == JobHeader.FromString(bytes.fromhex(told["header"])).job_id


def test_its_ticket_is_what_is_said_of_it(told: Any) -> None:
    kept = KeptJob.FromString(bytes.fromhex(told["ticket"]))
    assert (kept.response_seed.hex(), kept.transcript.hex()) == (told["answer_seed"], told["transcript"])
    ticket = JobTicket.from_bytes(bytes.fromhex(told["ticket"]))
    for answer in told["answers"]:
        opened, sent = ticket.open(bytes.fromhex(answer["sealed_result"])), bytes.fromhex(answer["opened"])
        if OpenedJobResult.FromString(sent).HasField("known_result"):
            assert opened.attestation_result == make_job_v1.TOKEN
            opened.known_result = 2
            opened.ClearField("attestation_result")
        assert opened.SerializeToString(deterministic=True) == sent
